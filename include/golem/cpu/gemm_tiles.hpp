// How a product is cut up for oneDNN: tiles of the output of nearly one size, and lines moved apart that would fall on each other in the cache.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

#include "golem/core/math.hpp"
#include "golem/cpu/gemm_pack.hpp"

namespace golem::cpu {

/// The tiles of a (rows, columns) output: a function of the shape alone. Large, since oneDNN packs its operands anew for
/// each; four or more where the shape has room, to share out; of nearly one size, so that threads that take as many
/// tiles each are done together.
struct OutputTiles {
  std::int64_t rows = 0, columns = 0;   // of a tile; those at the lower and right edge may have fewer
  std::int64_t down = 1, across = 1;    // how many

  constexpr OutputTiles(std::int64_t all_rows, std::int64_t all_columns) {
    constexpr std::int64_t most_rows = 512, most_columns = 768, least = 96, grain = 16;
    const auto share = [](std::int64_t all, std::int64_t parts) { return round_up(ceil_div(all, parts), grain); };
    down = ceil_div(all_rows, most_rows), across = ceil_div(all_columns, most_columns);
    rows = share(all_rows, down), columns = share(all_columns, across);
    while (down * across < 4 && larger(rows, columns) >= 2 * least) {
      if (rows >= columns) down *= 2, rows = share(all_rows, down);
      else across *= 2, columns = share(all_columns, across);
    }
    down = ceil_div(all_rows, rows), across = ceil_div(all_columns, columns);
  }
  constexpr std::int64_t count() const { return down * across; }
};

/// Whether packing walks through `a` in strides of whole pages: elements that it reads together then share one set of the
/// first-level cache and one translation each. oneDNN 2.6 fell from 76 to 35 GFLOP/s (Zen 3, a transposed, 512 x 192 x
/// 1024); as the second operand it did not suffer.
template <class T>
constexpr bool strides_over_pages(const Operand<T>& a) {
  return a.line_stride == 1 && a.depth_stride * static_cast<std::int64_t>(sizeof(T)) % 4096 == 0;
}

/// The stride of what moved_together() makes: a cache line more than `lines`, so that it is no power of two either.
template <class T>
constexpr std::int64_t moved_stride(std::int64_t lines) {
  return lines + 64 / static_cast<std::int64_t>(sizeof(T));
}

/// `lines` x `depth` elements of such an operand, near each other in the depth * moved_stride(lines) elements at `to`.
template <class T>
Operand<T> moved_together(T* to, const Operand<T>& a, std::int64_t lines, std::int64_t depth) {
  const std::int64_t stride = moved_stride<T>(lines);
  for (std::int64_t k = 0; k < depth; ++k) std::memcpy(to + k * stride, a.at(0, k), static_cast<std::size_t>(lines) * sizeof(T));
  return {to, 1, stride};
}

}  // namespace golem::cpu
