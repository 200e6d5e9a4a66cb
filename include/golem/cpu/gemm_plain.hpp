// golem's own GEMM: packs b once, cuts c in tiles of fixed sizes, and multiplies them tile by tile; for every element type.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "golem/cpu/device.hpp"
#include "golem/cpu/gemm_pack.hpp"

namespace golem::cpu {

/// The depth is cut in `count` steps of `step` (the last may be shorter), of a strip's depth at most.
struct DepthSteps {
  std::int64_t depth, count, step;

  explicit constexpr DepthSteps(std::int64_t depth)
      : depth(depth), count(larger<std::int64_t>(1, ceil_div(depth, strip_depth))), step(round_up(ceil_div(depth, count), strip_lines)) {}
  constexpr std::int64_t of(std::int64_t s) const { return larger<std::int64_t>(0, smaller(step, depth - s * step)); }
};

/// Packs lines [first, first + lines) of an operand: strip j of step s is at (s * ceil(lines / 16) + j) * strip_size.
template <class A, class T>
void pack(Device& device, A* to, const Operand<T>& from, std::int64_t first, std::int64_t lines, const DepthSteps& steps) {
  constexpr std::int64_t piece = 128;  // lines: half a kilobyte of a row of floats, where the lines lie side by side
  const std::int64_t pieces = ceil_div(lines, piece), strips = ceil_div(lines, strip_lines);
  device.parallel(steps.count * pieces, [&](std::int64_t i) {
    const std::int64_t s = i / pieces, line = i % pieces * piece;
    const Operand<T> part{from.at(first + line, s * steps.step), from.line_stride, from.depth_stride};
    run_on(device.isa(), PackStrips<A, T>{to + (s * strips + line / strip_lines) * strip_size, part, smaller(piece, lines - line), steps.of(s)});
  });
}

/// The product without a vendor's library: float and double in vectors of `device.isa()`; 16-bit types are widened as they are packed, and c is
/// rounded once. The sizes of slabs, tiles and steps are functions of the shape alone, so no sum depends on the number of threads.
template <class T, class Y>
void multiply_plain(Device& device, const Product<T, Y>& p) {
  using A = accumulate_t<T>;
  constexpr std::int64_t tile_rows = 128, tile_columns = 192;
  const DepthSteps steps(p.depth);
  const std::int64_t packed_depth = steps.count * strip_depth;
  const std::int64_t most = larger<std::int64_t>(1, (std::int64_t{1} << 23) / (packed_depth * 768)) * 768;  // lines packed at once: 32 MiB of floats, or 768 lines
  const std::int64_t slab_rows = smaller(most, round_up(p.rows, strip_lines)), slab_columns = smaller(most, round_up(p.columns, strip_lines));
  A* const left = device.shared_scratch<A>((slab_rows + slab_columns) * packed_depth + slab_columns);
  A* const right = left + slab_rows * packed_depth;
  A* const bias = right + slab_columns * packed_depth;

  for (std::int64_t first_column = 0; first_column < p.columns; first_column += slab_columns) {
    const std::int64_t columns = smaller(slab_columns, p.columns - first_column), right_strips = ceil_div(columns, strip_lines);
    for (std::int64_t j = 0; j < columns; ++j) bias[j] = p.bias ? static_cast<A>(p.bias[first_column + j]) : A{0};
    pack(device, right, p.b, first_column, columns, steps);

    for (std::int64_t first_row = 0; first_row < p.rows; first_row += slab_rows) {
      const std::int64_t rows = smaller(slab_rows, p.rows - first_row), left_strips = ceil_div(rows, strip_lines);
      if (first_column == 0 || slab_rows < p.rows) pack(device, left, p.a, first_row, rows, steps);

      const std::int64_t across = ceil_div(columns, tile_columns);
      device.parallel(ceil_div(rows, tile_rows) * across, [&](std::int64_t i) {
        const std::int64_t row = i / across * tile_rows, column = i % across * tile_columns;
        const std::int64_t height = smaller(tile_rows, rows - row), width = smaller(tile_columns, columns - column);
        Y* const out = p.c + (first_row + row) * p.c_stride + first_column + column;
        A* c;
        std::int64_t c_stride;
        if constexpr (std::is_same_v<Y, A>)
          c = out, c_stride = p.c_stride;
        else
          c = device.scratch<A>(tile_rows * tile_columns), c_stride = tile_columns;

        for (std::int64_t s = 0; s < steps.count; ++s) {
          const A* a = left + (s * left_strips + row / strip_lines) * strip_size;
          const A* b = right + (s * right_strips + column / strip_lines) * strip_size;
          const bool fresh = s == 0 && !p.accumulate;
          run_on(device.isa(), MultiplyStrips<A>{a, b, height, width, steps.of(s), fresh ? bias + column : c, fresh ? 0 : c_stride, c, c_stride});
        }
        if constexpr (!std::is_same_v<Y, A>)
          for (std::int64_t r = 0; r < height; ++r) run_on(device.isa(), Narrow<Y>{out + r * p.c_stride, c + r * c_stride, width});
      });
    }
  }
}

}  // namespace golem::cpu
