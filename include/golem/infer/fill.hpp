// Filling the blanks of a text one after the other (spec 2.4), and taking the answers out.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "golem/core/function_ref.hpp"
#include "golem/infer/generate_beams.hpp"
#include "golem/infer/prompt.hpp"
#include "golem/infer/sampling.hpp"

namespace golem {

struct Filled {
  std::vector<std::int32_t> text;                  // with the answers in place of the masks
  std::vector<std::vector<std::int32_t>> answers;  // in the order in which they were made
};

/// The next mask of `kind` behind the first `filled` tokens; -1 where there is none. An answer may hold a mask itself: it
/// is text, and what is filled next lies behind it.
inline std::int64_t next_blank(const std::vector<std::int32_t>& text, std::size_t filled, std::int32_t kind) {
  const auto found = std::find(text.begin() + static_cast<std::ptrdiff_t>(filled), text.end(), kind);
  return found == text.end() ? -1 : found - text.begin();
}

/// Tokens that an answer may have: `wanted`, but fewer where it would leave the mask of `kind` behind it no place in a cache of `capacity`.
inline int answer_limit(const Prompt& prompt, std::int64_t mask, std::int32_t kind, int wanted, int capacity) {
  require_room(prompt, capacity);
  const bool last = next_blank(prompt.tokens, static_cast<std::size_t>(mask) + 1, kind) < 0;
  return last ? wanted : std::min(wanted, capacity - static_cast<int>(prompt.tokens.size()));
}

/// Fills every mask of the kind that make_prompt() picks for `text`, left to right, each seeing the answers before it; a
/// text without a mask is continued. An answer that would fill the cache ends while each later blank has place for a token, so
/// that none is lost: where later answers come out short, ask for fewer max_tokens or a larger EngineOptions::capacity. Answers
/// count from sampling.answer on, so that the next text's begin behind them.
/// `on_token(token)` sees each token as it is made; returning false ends its answer.
template <class EngineType>
Filled fill_blanks(EngineType& engine, std::vector<std::int32_t> text, Sampling sampling, const SpecialTokens& special, function_ref<bool(std::int32_t)> on_token = {}) {
  Filled filled;
  std::int64_t mask = next_mask_or_end(text, special);
  const std::int32_t kind = text[static_cast<std::size_t>(mask)];
  while (mask >= 0) {
    const Prompt prompt = make_prompt(text, mask, special);
    Sampling own = sampling;
    own.max_tokens = answer_limit(prompt, mask, kind, sampling.max_tokens, engine.capacity());
    filled.answers.push_back(engine.generate(prompt, own, special, on_token));
    ++sampling.answer;
    const std::vector<std::int32_t>& answer = filled.answers.back();
    text.insert(text.erase(text.begin() + mask), answer.begin(), answer.end());
    mask = next_blank(text, static_cast<std::size_t>(mask) + answer.size(), kind);
  }
  filled.text = std::move(text);
  return filled;
}

/// The same by beam search: a filled text for each beam, best first. As in the original, the first beam of a blank is what
/// the next blank sees: before the last blank all are alike.
template <class EngineType>
std::vector<Filled> fill_blanks(EngineType& engine, std::vector<std::int32_t> text, BeamSearchOptions options, const SpecialTokens& special) {
  std::int64_t mask = next_mask_or_end(text, special);
  const std::int32_t kind = text[static_cast<std::size_t>(mask)];
  std::vector<std::vector<std::int32_t>> answers;
  std::vector<Filled> filled;
  while (mask >= 0) {
    filled.clear();
    const Prompt prompt = make_prompt(text, mask, special);
    BeamSearchOptions own = options;
    own.max_tokens = answer_limit(prompt, mask, kind, options.max_tokens, engine.capacity());
    for (Beam& beam : generate_beams(engine, prompt, own, special)) {
      Filled one{.text = text, .answers = answers};
      one.text.insert(one.text.erase(one.text.begin() + mask), beam.tokens.begin(), beam.tokens.end());
      one.answers.push_back(std::move(beam.tokens));
      filled.push_back(std::move(one));
    }
    if (filled.empty()) break;
    ++options.answer;
    text = filled.front().text, answers = filled.front().answers;
    mask = next_blank(text, static_cast<std::size_t>(mask) + answers.back().size(), kind);
  }
  return filled;
}

}  // namespace golem
