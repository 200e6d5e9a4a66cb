// project for quantised weights: y = x wT + b, with w as INT8 or INT4 where it lies, for one token or many.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "golem/config/quantized_tensor.hpp"
#include "golem/cpu/device.hpp"
#include "golem/cpu/quantized_activations.hpp"
#include "golem/cpu/quantized_gemm_plain.hpp"

namespace golem::cpu {

/// One row's scale for each of `blocks` blocks, from its scale for each group.
template <Quant Q>
void spread_scales(float* out, const float16* scales, std::int64_t groups, std::int64_t blocks) {
  for (std::int64_t b = 0; b < blocks; ++b) {
    const std::int64_t group = Q.group == 0 ? 0 : b * block_columns<Q> / Q.group;
    out[b] = group < groups ? static_cast<float>(scales[group]) : 0.0f;  // beyond the last column
  }
}

/// Row by row: its integers are unpacked once, and meet four tokens at a time.
template <class Row, class T, class Tokens, Quant Q>
void project_rows(Device& device, View<T, 2> y, const Tokens& x, const QuantizedView<Q>& w, View<const T, 1> bias) {
  using A = accumulate_t<T>;
  constexpr std::int64_t rows = 16;  // of one piece of work
  const std::int64_t count = y.extent(0), chunks = chunks_of(w.columns), blocks = blocks_of<Q>(w.columns), groups = Q.groups(w.columns);
  device.parallel(ceil_div(w.rows, rows), [&](std::int64_t piece) {
    Arena arena(device.scratch<std::byte>(chunks * chunk_columns + round_up(blocks * 4, 64)),
                static_cast<std::size_t>(chunks * chunk_columns + round_up(blocks * 4, 64)));
    const auto weights = arena.take<std::int8_t>(chunks * chunk_columns);
    const auto scales = arena.take<float>(blocks);
    std::memset(weights.data + (chunks - 1) * chunk_columns, 0, chunk_columns);
    for (std::int64_t row = piece * rows; row < smaller(w.rows, (piece + 1) * rows); ++row) {
      Row::template unpack<Q>(weights.data, w.data.data + row * Q.row_bytes(w.columns), w.columns);
      spread_scales<Q>(scales.data, w.scales.data + row * groups, groups, blocks);
      const A b = bias ? static_cast<A>(bias(row)) : A{0};
      std::int64_t token = 0;
      for (A sums[4]; token + 4 <= count; token += 4) {
        Row::template dot<Q>(sums, weights.data, scales.data, x, token);
        for (int t = 0; t < 4; ++t) y(token + t, row) = static_cast<T>(sums[t] + b);
      }
      for (A sum[1]; token < count; ++token) {
        Row::template dot<Q>(sum, weights.data, scales.data, x, token);
        y(token, row) = static_cast<T>(sum[0] + b);
      }
    }
  });
}

/// y (N, O) = x (N, I) wT + bias (O) or none, w (O, I) quantised. Q.activations == exact: each weight is integer * scale
/// in float (the original rounds that product to fp16), sums are held in float. int8: x is rounded to int8 with a scale for
/// each token and block of columns (a group, 128 at most), sums of a block are integers. Throws Error where shapes differ.
template <class T, Quant Q, class Byte>
void project(Device& device, View<T, 2> y, std::type_identity_t<View<const T, 2>> x, const QuantizedView<Q, Byte>& w,
             std::type_identity_t<View<const T, 1>> bias) {
  require(x.extent(0) == y.extent(0) && x.extent(1) == w.columns && y.extent(1) == w.rows && (!bias || bias.extent(0) == w.rows),
          "a product y = x wT + b was asked for with y ", shape_of(y), ", x ", shape_of(x), ", a quantised w (", w.rows, ", ", w.columns, ") and b ",
          shape_of(bias), ": they must be (N, O), (N, I), (O, I) and (O)");
  const std::int64_t count = y.extent(0);
  if (count == 0 || w.rows == 0) return;
  const auto take = [&](Arena& arena) {
    if constexpr (Q.activations == Activations::exact)
      return take_exact<accumulate_t<T>>(arena, count, w.columns);
    else
      return take_int8<Q>(arena, count, w.columns, 0);
  };
  Arena measure;
  take(measure);
  Arena arena(device.shared_scratch<std::byte>(static_cast<std::int64_t>(measure.used())), measure.used());
  const auto tokens = take(arena);
  device.parallel(count, [&](std::int64_t token) {
    if constexpr (Q.activations == Activations::exact)
      arrange_token<ColumnOrder::plain>(tokens, x, token);
    else
      arrange_token<Q>(tokens, x, token);
  });
  project_rows<PlainRow, T>(device, y, tokens, QuantizedView<Q>(w), bias);
}

}  // namespace golem::cpu
