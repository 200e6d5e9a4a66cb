// Quant: the format of a quantised weight matrix, as a template value.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/core/annotate.hpp"

namespace golem {

/// What meets the quantised weights in a product.
enum class Activations : std::uint8_t {
  exact,  // the activations as they are; weights are widened (GLM-130B's own, spec 5.1)
  int8,   // activations rounded to int8, one scale for each token and group of at most 128 columns, for integer dot products
};

/// Symmetric absmax quantisation of a (rows, columns) matrix (spec 5.1). `group = 0`: one scale for a whole row of the
/// shard, GLM-130B's format; else one scale for each `group` consecutive columns.
struct Quant {
  int bits = 8;   // 8 or 4
  int group = 0;  // columns, a multiple of 32; 0: the row
  Activations activations = Activations::exact;

  GOLEM_HD constexpr int max() const { return (1 << (bits - 1)) - 1; }  // 127 or 7
  GOLEM_HD constexpr std::int64_t groups(std::int64_t columns) const { return group == 0 ? 1 : (columns + group - 1) / group; }
  GOLEM_HD constexpr std::int64_t row_bytes(std::int64_t columns) const { return bits == 4 ? (columns + 1) / 2 : columns; }
  friend constexpr bool operator==(const Quant&, const Quant&) = default;
};

}  // namespace golem
