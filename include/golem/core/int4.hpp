// Two signed 4-bit integers in a byte, GLM-130B's way: the even column in the high nibble, the odd one in the low (spec 5.1).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/core/annotate.hpp"

namespace golem {

/// The byte that holds two integers of -8 .. 7.
GOLEM_HD constexpr std::uint8_t pack_int4(int even, int odd) { return static_cast<std::uint8_t>((even & 15) << 4 | (odd & 15)); }

GOLEM_HD constexpr int int4_even(std::uint8_t byte) { return ((byte >> 4) ^ 8) - 8; }
GOLEM_HD constexpr int int4_odd(std::uint8_t byte) { return ((byte & 15) ^ 8) - 8; }

/// The integer of a column, from the bytes of its row.
GOLEM_HD constexpr int int4_at(const std::uint8_t* row, std::int64_t column) {
  return column % 2 == 0 ? int4_even(row[column / 2]) : int4_odd(row[column / 2]);
}

}  // namespace golem
