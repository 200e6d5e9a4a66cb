// SpecialTokens: the ids of the tokens that are no text (spec 2.1).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace golem {

struct SpecialTokens {
  std::int32_t mask = 0;     // [MASK]: a short blank
  std::int32_t gmask = 0;    // [gMASK]: all that follows
  std::int32_t smask = 0;    // [sMASK]: a sentence; GLM-130B never trained it
  std::int32_t sop = 0;      // start of piece
  std::int32_t eop = 0;      // end of piece
  std::int32_t eos = 0;      // </s>, end of a document
  std::int32_t newline = 0;  // <n>
  std::int32_t pad = 0;
  friend constexpr bool operator==(const SpecialTokens&, const SpecialTokens&) = default;
};

/// GLM-130B's (spec 2.1): pads are an image token's id, always masked.
inline constexpr SpecialTokens glm_130b_tokens{.mask = 150000, .gmask = 150001, .smask = 150002, .sop = 150004, .eop = 150005, .eos = 20002, .newline = 20004, .pad = 0};

}  // namespace golem
