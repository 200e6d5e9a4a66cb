// Quant: the format of a quantised weight matrix, as a template value.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/core/annotate.hpp"
#include "golem/core/number.hpp"

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
  /// Columns of a token that share a scale where activations are rounded: a group, but 128 at most. A token's outliers
  /// (spec 5.2) thus cost precision in their own block alone, and the integer sums of a block are exact.
  GOLEM_HD constexpr int block() const { return group == 0 || group > 128 ? 128 : group; }
  GOLEM_HD constexpr std::int64_t groups(std::int64_t columns) const { return group == 0 ? 1 : (columns + group - 1) / group; }
  GOLEM_HD constexpr std::int64_t row_bytes(std::int64_t columns) const { return bits == 4 ? (columns + 1) / 2 : columns; }
  friend constexpr bool operator==(const Quant&, const Quant&) = default;
};

/// The scale that makes the largest magnitude of a block of activations the integer `limit`, and its inverse, from the bits of
/// that magnitude. The largest bits are those of a NaN, then of infinity: both reach the scale, and through it the result.
/// Below 2^-100 a block counts as zero.
struct BlockScale {
  float scale = 0, inverse = 0;

  GOLEM_HD constexpr BlockScale(std::uint32_t largest_bits, float limit) {
    if (largest_bits < bits_as<std::uint32_t>(0x1p-100f)) return;
    scale = bits_as<float>(largest_bits) / limit;
    inverse = limit / bits_as<float>(largest_bits);
  }
};

}  // namespace golem
