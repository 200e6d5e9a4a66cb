// project for quantised weights: y = x wT + b, with w as INT8 or INT4 where it lies, for one token or many.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "golem/config/quantized_tensor.hpp"
#include "golem/cpu/device.hpp"
#include "golem/cpu/quantized_activations.hpp"
#include "golem/cpu/quantized_gemm_avx2.hpp"
#include "golem/cpu/quantized_gemm_plain.hpp"
#include "golem/cpu/quantized_gemm_vnni.hpp"

namespace golem::cpu {

/// Asks for memory that will be read soon.
inline void prefetch(const void* from, std::int64_t bytes) {
  for (std::int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(from) + i, 0, 2);
}

/// y of `rows` rows and the next tokens, at most `tokens`; returns how many those were.
template <class Row, Quant Q, int rows, int tokens, class T, class Weight, class Tokens>
std::int64_t dot_rows(View<T, 2> y, const Weight* weights, std::int64_t columns, const RowScales& scales, const Tokens& x, View<const T, 1> bias,
                      std::int64_t row, std::int64_t token) {
  using A = accumulate_t<T>;
  if constexpr (tokens > 1)
    if (y.extent(0) - token < tokens) return dot_rows<Row, Q, rows, tokens - 1>(y, weights, columns, scales, x, bias, row, token);
  A sums[rows * tokens];
  Row::template dot<Q, rows, tokens>(sums, weights, columns, scales, x, token);
  for (int r = 0; r < rows; ++r)
    for (int t = 0; t < tokens; ++t) y(token + t, row + r) = static_cast<T>(sums[r * tokens + t] + (bias ? static_cast<A>(bias(row + r)) : A{0}));
  return tokens;
}

/// y of rows row .. row + rows - 1: their integers are unpacked once, or met where they lie, and meet a few tokens at a time.
template <class Row, int rows, int tokens, class T, class Tokens, Quant Q>
void meet_rows(View<T, 2> y, const Tokens& x, const QuantizedView<Q>& w, View<const T, 1> bias, std::int8_t* unpacked, const RowScales& scales,
               std::int64_t row) {
  const std::int64_t groups = Q.groups(w.columns);
  if constexpr (Q.group != 0) prefetch(w.scales.data + (row + 2 * rows) * groups, rows * groups * 2);  // of the call after next
  const auto* weights = Row::template unpack<Q>(unpacked, w.data.data + row * Q.row_bytes(w.columns), w.columns);
  for (int r = 0; r < rows; ++r)
    Row::template spread<Q>(scales.scales + r * scales.stride, w.scales.data + (row + r) * groups, groups, blocks_of<Q>(w.columns));
  for (std::int64_t token = 0; token < y.extent(0);) token += dot_rows<Row, Q, rows, tokens>(y, weights, w.columns, scales, x, bias, row, token);
}

/// Row by row. A single token meets Row::rows rows at once, some meet half as many.
template <class Row, class T, class Tokens, Quant Q>
void project_rows(Device& device, View<T, 2> y, const Tokens& x, const QuantizedView<Q>& w, View<const T, 1> bias) {
  constexpr std::int64_t rows_per_piece = 16;
  constexpr int half = Row::rows > 1 ? Row::rows / 2 : 1;
  const std::int64_t count = y.extent(0), unpacked_bytes = chunks_of(w.columns) * chunk_columns, stride = round_up(blocks_of<Q>(w.columns), 16);
  device.parallel(ceil_div(w.rows, rows_per_piece), [&](std::int64_t piece) {
    auto* unpacked = device.scratch<std::int8_t>(unpacked_bytes + Row::rows * (1 + Row::tokens) * stride * 4);
    auto* scales = reinterpret_cast<float*>(unpacked + unpacked_bytes);
    const RowScales space{scales, scales + Row::rows * stride, stride};
    std::memset(unpacked + unpacked_bytes - chunk_columns, 0, chunk_columns);
    const std::int64_t last = smaller(w.rows, (piece + 1) * rows_per_piece);
    std::int64_t row = piece * rows_per_piece;
    if (count == 1)
      for (; row + Row::rows <= last; row += Row::rows) meet_rows<Row, Row::rows, 1>(y, x, w, bias, unpacked, space, row);
    for (; row + half <= last; row += half) meet_rows<Row, half, Row::tokens>(y, x, w, bias, unpacked, space, row);
    for (; row < last; ++row) meet_rows<Row, 1, Row::tokens>(y, x, w, bias, unpacked, space, row);
  });
}

#if defined(__x86_64__)
/// Tile::multiply of `count` tokens, `tokens` at most.
template <class Tile, Quant Q, int tokens>
void multiply_tile(float* sums, const std::byte* tile, const float* scales, const Int8Activations& x, std::int64_t chunk, std::int64_t token,
                   std::int64_t count) {
  if (count >= tokens)
    Tile::template multiply<Q, tokens>(sums, tile, scales, x, chunk, token);
  else if constexpr (tokens > 1)
    multiply_tile<Tile, Q, tokens - 1>(sums, tile, scales, x, chunk, token, count);
}

/// 64 rows at a time: each chunk of them is unpacked once, and meets all tokens of a panel.
template <class Tile, class T, Quant Q>
void project_tiles(Device& device, View<T, 2> y, const Int8Activations& x, const QuantizedView<Q>& w, View<const T, 1> bias) {
  const std::int64_t count = y.extent(0), panel = smaller<std::int64_t>(count, 512), chunks = chunks_of(w.columns),
                     blocks = round_up(blocks_of<Q>(w.columns), 16);
  const std::int64_t row_bytes = Q.row_bytes(w.columns), chunk_bytes = tile_rows * Q.row_bytes(chunk_columns);
  device.parallel(ceil_div(w.rows, tile_rows), [&](std::int64_t piece) {
    const std::int64_t row = piece * tile_rows;
    auto* tile = device.scratch<std::byte>(Tile::bytes + 4 * (panel * tile_rows + blocks * (tile_rows + 16)));
    auto* sums = reinterpret_cast<float*>(tile + Tile::bytes);  // (panel, 64)
    float* scales = sums + panel * tile_rows;                   // (blocks, 64)
    tile_scales<Q>(scales, scales + blocks * tile_rows, w.scales, row, blocks);
    for (std::int64_t first = 0; first < count; first += panel) {
      const std::int64_t here = smaller(panel, count - first);
      std::memset(sums, 0, static_cast<std::size_t>(here * tile_rows) * sizeof(float));
      for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
        const float* chunk_scales = scales + chunk * (chunk_columns / block_columns<Q>)*tile_rows;
        prefetch(w.data.data + (row + tile_rows) * row_bytes + chunk * chunk_bytes, chunk_bytes);  // the next 64 rows
        Tile::template unpack<Q>(tile, w.data, row, chunk);
        for (std::int64_t t = 0; t < here; t += Tile::tokens)
          multiply_tile<Tile, Q, Tile::tokens>(sums + t * tile_rows, tile, chunk_scales, x, chunk, first + t, here - t);
      }
      store_tile(y, sums, bias, row, first, here);
    }
  });
}

/// The product on VNNI, each token in `planes` planes of int8: few of them meet rows where they lie, for more an unpacked tile pays.
template <int planes, class T, Quant Q>
void project_vnni(Device& device, View<T, 2> y, View<const T, 2> x, const QuantizedView<Q>& w, View<const T, 1> bias) {
  const std::int64_t count = y.extent(0);
  const auto tokens = take_int8<Q, planes>(device, count, w.columns, offset_lanes<Q>);
  device.parallel(count, [&](std::int64_t token) { arrange_token_vnni<Q, planes>(tokens, x, token); });
  if (count <= VnniRow<planes>::template most_tokens<Q>)
    project_rows<VnniRow<planes>>(device, y, tokens, w, bias);
  else
    project_tiles<VnniTile<planes>>(device, y, tokens, w, bias);
}
#endif

/// y (N, O) = x (N, I) wT + bias (O) or none, w (O, I) quantised. Each weight is integer * scale in float (the original
/// rounds that product to fp16). Q.activations == exact: x keeps float's precision, or 24 bits (bfloat16: 16) below the
/// largest magnitude of its block, which float sums of the block would not keep either. int8: x is rounded to 8 bits below
/// that. A block is a group of columns of one token, 128 at most; sums of blocks are held in float, in an order that does
/// not depend on threads. Throws Error where shapes differ.
template <class T, Quant Q, class Byte>
void project(Device& device, View<T, 2> y, std::type_identity_t<View<const T, 2>> x, const QuantizedView<Q, Byte>& weights,
             std::type_identity_t<View<const T, 1>> bias) {
  const QuantizedView<Q> w = weights;
  require(w.columns > 0 && x.extent(0) == y.extent(0) && x.extent(1) == w.columns && y.extent(1) == w.rows && (!bias || bias.extent(0) == w.rows),
          "a product y = x wT + b was asked for with y ", shape_of(y), ", x ", shape_of(x), ", a quantised w (", w.rows, ", ", w.columns, ") and b ",
          shape_of(bias), ": they must be (N, O), (N, I), (O, I) and (O)");
  const std::int64_t count = y.extent(0);
  if (count == 0 || w.rows == 0) return;
  constexpr bool exact = Q.activations == Activations::exact, vectors = !std::is_same_v<T, double>;
  [[maybe_unused]] constexpr int planes = !exact ? 1 : std::is_same_v<T, bfloat16> ? 2 : 3;
#if defined(__x86_64__)
  if constexpr (vectors)
    if (device.isa() >= Isa::avx512_vnni) return project_vnni<planes>(device, y, x, w, bias);
#endif
  const auto tokens = [&] {
    if constexpr (exact)
      return take_exact<accumulate_t<T>>(device, count, w.columns);
    else
      return take_int8<Q, 1>(device, count, w.columns, 0);
  }();
  device.parallel(count, [&](std::int64_t token) {
    if constexpr (exact)
      arrange_token(tokens, x, token);
    else
      arrange_token<Q>(tokens, x, token);
  });
#if defined(__x86_64__)
  if constexpr (vectors)
    if (device.isa() >= Isa::avx2) return project_rows<Avx2Row>(device, y, tokens, w, bias);
#endif
  project_rows<PlainRow>(device, y, tokens, w, bias);
}

}  // namespace golem::cpu
