// generate_batch: answers to several prompts at once; where one has ended, the next prompt takes its place in the key-value cache.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "golem/core/function_ref.hpp"
#include "golem/infer/engine_core.hpp"

namespace golem {

/// Generates behind each prompt until an end token, `sampling.max_tokens` or the end of the cache; as many prompts at once as the engine has
/// sequences. Answer i draws the random numbers of answer `sampling.answer + i`, so that it is what engine.generate() gives that prompt alone, but
/// for rounding: products of many rows may add in another order. `on_token(i, token)` sees each token as it is made. Tokens without end tokens.
/// Throws Error for a prompt that leaves no room or is of another vocabulary, before any is begun. Tensor ranks make the same call and get the same answers.
template <class EngineType>
std::vector<std::vector<std::int32_t>> generate_batch(EngineType& engine, std::span<const Prompt> prompts, const Sampling& sampling, const SpecialTokens& special,
                                                      function_ref<void(std::size_t, std::int32_t)> on_token = {}) {
  struct Row {
    std::size_t prompt;
    std::int32_t slot;
    Sampler sampler;
    std::int32_t token = 0, position = 0;  // that come next, behind the prompt
  };
  for (const Prompt& prompt : prompts) {
    require_room(prompt, engine.capacity());
    for (const std::int32_t token : prompt.tokens) require_token(token, engine.vocab());
  }
  const AnswerRules rules(sampling, special, engine.vocab());
  std::vector<std::vector<std::int32_t>> answers(prompts.size());
  if (sampling.max_tokens < 1) return answers;
  std::vector<std::int32_t> free;
  for (std::int32_t slot = engine.sequences(); slot-- > 0;) free.push_back(slot);

  std::vector<Row> rows;
  std::vector<SequenceStep> steps;
  std::vector<TokenDraw> draws;
  for (std::size_t next = 0; next < prompts.size() || !rows.empty();) {
    for (; next < prompts.size() && !free.empty(); ++next, free.pop_back()) {
      Sampling own = sampling;
      own.answer += next;
      rows.push_back({next, free.back(), Sampler(own)});
    }
    steps.clear(), draws.clear();
    for (Row& row : rows) {
      const Prompt& prompt = prompts[row.prompt];
      const auto length = static_cast<std::int32_t>(prompt.tokens.size()), made = static_cast<std::int32_t>(answers[row.prompt].size());
      if (made == 0) steps.push_back({.slot = row.slot, .first = 0, .prefix = prompt.prefix(), .tokens = prompt.tokens, .positions = prompt.positions});
      else steps.push_back({.slot = row.slot, .first = length + made - 1, .prefix = prompt.prefix(), .tokens = {&row.token, 1}, .positions = {&row.position, 1}});
      draws.push_back({&row.sampler, answers[row.prompt].size()});
    }
    const auto tokens = engine.next_tokens(steps, draws, rules);
    std::size_t kept = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      Row& row = rows[i];
      std::vector<std::int32_t>& answer = answers[row.prompt];
      row.token = tokens[i];
      bool goes_on = !rules.is_end(row.token);
      if (goes_on) {
        if (on_token) on_token(row.prompt, row.token);
        row.position = prompts[row.prompt].position(static_cast<std::int64_t>(answer.size()));
        goes_on = prompts[row.prompt].has_room(static_cast<std::int64_t>(answer.size()), engine.capacity(), engine.context());
        answer.push_back(row.token);
        goes_on = goes_on && static_cast<int>(answer.size()) < sampling.max_tokens;
      }
      if (!goes_on) free.push_back(row.slot);
      else if (kept++ != i) rows[kept - 1] = std::move(row);
    }
    rows.erase(rows.begin() + static_cast<std::ptrdiff_t>(kept), rows.end());
  }
  return answers;
}

}  // namespace golem
