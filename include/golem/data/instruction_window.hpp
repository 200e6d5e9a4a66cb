// A window of a training row that holds one instruction: a text, [MASK], and what is to follow (spec 2.6).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "golem/config/special_tokens.hpp"
#include "golem/core/error.hpp"
#include "golem/data/sample.hpp"

namespace golem {

/// Appends text [MASK] sop target, padded to token `end` of the sample; target and eop are predicted. A pair that is too
/// long loses the end of its text, down to a quarter of the window, then the end of its target. Positions count on, in
/// the target too: GLM-130B's launch version (spec 9, 5).
inline void add_instruction_window(Sample& sample, std::span<const std::int32_t> text, std::span<const std::int32_t> target, int end, const SpecialTokens& special) {
  const auto start = static_cast<std::int64_t>(sample.size()), room = end - start - 2;  // without [MASK] and sop
  require(room >= 1, "an instruction was to be put in a window of ", end - start, " tokens: at least 3");
  const auto length = [](std::span<const std::int32_t> part) { return static_cast<std::int64_t>(part.size()); };
  if (length(text) + length(target) > room)
    text = text.first(static_cast<std::size_t>(std::min(length(text), std::max((end - start) / 4, room - length(target)))));
  if (length(text) + length(target) > room) target = target.first(static_cast<std::size_t>(room - length(text)));

  std::int32_t position = 0, before = special.sop;
  for (const std::int32_t token : text) sample.read(token, position++);
  sample.read(special.mask, position++);
  for (const std::int32_t token : target) {
    sample.predict(before, token, position++);
    before = token;
  }
  sample.predict(before, special.eop, position++);
  sample.fit(static_cast<std::size_t>(end), special.pad, position, 1);
  sample.windows.push_back({static_cast<std::int32_t>(start), end, static_cast<std::int32_t>(length(text)) + 1});
}

}  // namespace golem
