// Prompt: a context that ends in sop, and the rule for the positions of what is generated behind it (spec 2.2).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "golem/config/special_tokens.hpp"
#include "golem/core/error.hpp"

namespace golem {

/// Tokens, their positions, and where generation goes on. All tokens but sop see each other (spec 2.3).
struct Prompt {
  std::vector<std::int32_t> tokens;     // ends in sop
  std::vector<std::int32_t> positions;  // of the tokens
  std::int32_t next_position = 0;       // of the first generated token
  std::int32_t step = 1;                // from one generated token to the next: 0 for [MASK], 1 for [gMASK]

  std::int32_t prefix() const { return static_cast<std::int32_t>(tokens.size()) - 1; }
  std::int32_t position(std::int64_t generated) const { return next_position + step * static_cast<std::int32_t>(generated); }
  /// Whether generated token `generated` (from 0) has a place in a cache of `capacity` tokens, and a position in the model's context.
  bool has_room(std::int64_t generated, int capacity, int context) const {
    return static_cast<std::int64_t>(tokens.size()) + generated < capacity && position(generated) < context;
  }
};

/// Throws Error where a prompt fills a cache of `capacity` tokens, so that nothing can be generated behind it.
inline void require_room(const Prompt& prompt, int capacity) {
  require(static_cast<std::int64_t>(prompt.tokens.size()) < capacity, "a prompt of ", prompt.tokens.size(), " tokens leaves no room to generate in ", capacity,
          " (EngineOptions::capacity, at most the model's context): shorten the text");
}

/// Throws Error for what is no token of a model's.
inline void require_token(std::int32_t token, int vocab) {
  require(token >= 0 && token < vocab, "token ", token, " is not in the model's vocabulary of ", vocab, ": the prompt was made with another tokenizer");
}

/// The mask token of `text` that is filled next, by kind: [MASK] before [sMASK] before [gMASK], left-most first (spec 2.4).
/// -1 where there is none.
inline std::int64_t next_mask(const std::vector<std::int32_t>& text, const SpecialTokens& special) {
  for (const std::int32_t mask : {special.mask, special.smask, special.gmask}) {
    const auto found = std::find(text.begin(), text.end(), mask);
    if (found != text.end()) return found - text.begin();
  }
  return -1;
}

/// Where the next mask of `text` is; without a mask, [gMASK] is appended: the text is continued. Throws Error for an empty text.
inline std::int64_t next_mask_or_end(std::vector<std::int32_t>& text, const SpecialTokens& special) {
  require(!text.empty(), "a prompt without a token has nothing to go on: give it some text, or a blank in some text");
  if (const std::int64_t mask = next_mask(text, special); mask >= 0) return mask;
  text.push_back(special.gmask);
  return static_cast<std::int64_t>(text.size()) - 1;
}

/// The prompt that fills the mask at `mask` of `text`.
inline Prompt make_prompt(std::vector<std::int32_t> text, std::int64_t mask, const SpecialTokens& special) {
  Prompt prompt;
  const bool generation = text[static_cast<std::size_t>(mask)] == special.gmask;
  prompt.tokens = std::move(text);
  prompt.tokens.push_back(special.sop);
  prompt.positions.resize(prompt.tokens.size());
  for (std::size_t i = 0; i < prompt.positions.size(); ++i) prompt.positions[i] = static_cast<std::int32_t>(i);
  if (!generation) prompt.positions.back() = static_cast<std::int32_t>(mask);
  prompt.step = generation ? 1 : 0;
  prompt.next_position = prompt.positions.back() + prompt.step;
  return prompt;
}

/// The prompt that fills the next mask of `text`, or continues it: see next_mask_or_end.
inline Prompt make_prompt(std::vector<std::int32_t> text, const SpecialTokens& special) {
  const std::int64_t mask = next_mask_or_end(text, special);
  return make_prompt(std::move(text), mask, special);
}

}  // namespace golem
