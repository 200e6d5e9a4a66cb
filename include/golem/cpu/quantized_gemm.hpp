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
#include "golem/cpu/quantized_gemm_avx512.hpp"
#include "golem/cpu/quantized_gemm_plain.hpp"
#include "golem/cpu/quantized_gemm_vnni.hpp"

namespace golem::cpu {

/// Tokens for which a row is read where it lies; for more, its unpacking into a tile pays.
inline constexpr std::int64_t few_tokens = 4;

/// Row by row: its integers are unpacked once, or met where they lie, and meet four tokens at a time.
template <class Row, class T, class Tokens, Quant Q>
void project_rows(Device& device, View<T, 2> y, const Tokens& x, const QuantizedView<Q>& w, View<const T, 1> bias) {
  using A = accumulate_t<T>;
  constexpr std::int64_t rows = 16;  // of one piece of work
  const std::int64_t count = y.extent(0), chunks = chunks_of(w.columns), blocks = blocks_of<Q>(w.columns), groups = Q.groups(w.columns);
  const std::int64_t weight_bytes = chunks * chunk_columns, scale_bytes = round_up(blocks, 16) * 4;
  device.parallel(ceil_div(w.rows, rows), [&](std::int64_t piece) {
    auto* unpacked = device.scratch<std::int8_t>(weight_bytes + scale_bytes);
    auto* scales = reinterpret_cast<float*>(unpacked + weight_bytes);
    std::memset(unpacked + weight_bytes - chunk_columns, 0, chunk_columns);
    for (std::int64_t row = piece * rows; row < smaller(w.rows, (piece + 1) * rows); ++row) {
      const auto* weights = Row::template unpack<Q>(unpacked, w.data.data + row * Q.row_bytes(w.columns), w.columns);
      Row::template spread<Q>(scales, w.scales.data + row * groups, groups, blocks);
      const A b = bias ? static_cast<A>(bias(row)) : A{0};
      std::int64_t token = 0;
      for (A sums[4]; token + 4 <= count; token += 4) {
        Row::template dot<Q>(sums, weights, w.columns, scales, x, token);
        for (int t = 0; t < 4; ++t) y(token + t, row) = static_cast<T>(sums[t] + b);
      }
      for (A sum[1]; token < count; ++token) {
        Row::template dot<Q>(sum, weights, w.columns, scales, x, token);
        y(token, row) = static_cast<T>(sum[0] + b);
      }
    }
  });
}

#if defined(__x86_64__)
/// Asks for memory that will be read soon.
inline void prefetch(const std::uint8_t* from, std::int64_t bytes) {
  for (std::int64_t i = 0; i < bytes; i += 64) _mm_prefetch(reinterpret_cast<const char*>(from + i), _MM_HINT_T1);
}

/// Tile::multiply of `count` tokens, 1 .. tokens.
template <class Tile, Quant Q, int tokens>
void multiply_tile(float* sums, const std::byte* tile, const float* scales, const typename Tile::Tokens& x, std::int64_t chunk, std::int64_t token,
                   std::int64_t count) {
  if (count >= tokens)
    Tile::template multiply<Q, tokens>(sums, tile, scales, x, chunk, token);
  else if constexpr (tokens > 1)
    multiply_tile<Tile, Q, tokens - 1>(sums, tile, scales, x, chunk, token, count);
}

/// 64 rows at a time: each chunk of them is unpacked once, and meets all tokens of a panel.
template <class Tile, class T, Quant Q>
void project_tiles(Device& device, View<T, 2> y, const typename Tile::Tokens& x, const QuantizedView<Q>& w, View<const T, 1> bias) {
  constexpr int step = 6;  // tokens whose sums for 64 rows fit 32 registers, with the weights: 6 * 4 + 4 + 1
  const std::int64_t count = y.extent(0), panel = smaller<std::int64_t>(count, 512), chunks = chunks_of(w.columns),
                     blocks = round_up(blocks_of<Q>(w.columns), 16);
  const std::int64_t row_bytes = Q.row_bytes(w.columns);
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
        prefetch(w.data.data + (row + tile_rows) * row_bytes + chunk * tile_rows * Q.row_bytes(chunk_columns),
                 tile_rows * Q.row_bytes(chunk_columns));
        Tile::template unpack<Q>(tile, w.data, chunk_scales, row, chunk);
        for (std::int64_t t = 0; t < here; t += step)
          multiply_tile<Tile, Q, step>(sums + t * tile_rows, tile, chunk_scales, x, chunk, first + t, here - t);
      }
      store_tile(y, sums, bias, row, first, here);
    }
  });
}
#endif

/// y (N, O) = x (N, I) wT + bias (O) or none, w (O, I) quantised. Q.activations == exact: each weight is integer * scale
/// in float (the original rounds that product to fp16), sums are held in float. int8: x is rounded to int8 with a scale for
/// each token and block of columns (a group, 128 at most), sums of a block are integers. Throws Error where shapes differ.
template <class T, Quant Q, class Byte>
void project(Device& device, View<T, 2> y, std::type_identity_t<View<const T, 2>> x, const QuantizedView<Q, Byte>& weights,
             std::type_identity_t<View<const T, 1>> bias) {
  const QuantizedView<Q> w = weights;
  require(x.extent(0) == y.extent(0) && x.extent(1) == w.columns && y.extent(1) == w.rows && (!bias || bias.extent(0) == w.rows),
          "a product y = x wT + b was asked for with y ", shape_of(y), ", x ", shape_of(x), ", a quantised w (", w.rows, ", ", w.columns, ") and b ",
          shape_of(bias), ": they must be (N, O), (N, I), (O, I) and (O)");
  const std::int64_t count = y.extent(0);
  if (count == 0 || w.rows == 0) return;
  if constexpr (Q.activations == Activations::exact) {
    Arena measure;
    take_exact<accumulate_t<T>>(measure, count, w.columns);
    Arena arena(device.shared_scratch<std::byte>(static_cast<std::int64_t>(measure.used())), measure.used());
    const auto tokens = take_exact<accumulate_t<T>>(arena, count, w.columns);
#if defined(__x86_64__)
    if constexpr (!std::is_same_v<T, double>) {
      if (device.isa() >= Isa::avx512) {
        device.parallel(count, [&](std::int64_t token) { arrange_token<ExactRow::order<Q>>(tokens, x, token); });
        return count <= few_tokens ? project_rows<ExactRow>(device, y, tokens, w, bias) : project_tiles<ExactTile>(device, y, tokens, w, bias);
      }
    }
#endif
    device.parallel(count, [&](std::int64_t token) { arrange_token<ColumnOrder::plain>(tokens, x, token); });
#if defined(__x86_64__)
    if constexpr (!std::is_same_v<T, double>)
      if (device.isa() >= Isa::avx2) return project_rows<Avx2Row>(device, y, tokens, w, bias);
#endif
    project_rows<PlainRow>(device, y, tokens, w, bias);
  } else {
    Arena measure;
    take_int8<Q>(measure, count, w.columns, 32);
    Arena arena(device.shared_scratch<std::byte>(static_cast<std::int64_t>(measure.used())), measure.used());
    const auto tokens = take_int8<Q>(arena, count, w.columns, Q.bits == 4 ? 16 : 32);
#if defined(__x86_64__)
    if constexpr (!std::is_same_v<T, double>) {
      if (device.isa() >= Isa::avx512_vnni) {
        device.parallel(count, [&](std::int64_t token) { arrange_token_vnni<Q>(tokens, x, token); });
        return count <= few_tokens ? project_rows<VnniRow>(device, y, tokens, w, bias) : project_tiles<VnniTile>(device, y, tokens, w, bias);
      }
    }
#endif
    device.parallel(count, [&](std::int64_t token) { arrange_token<Q>(tokens, x, token); });
#if defined(__x86_64__)
    if constexpr (!std::is_same_v<T, double>)
      if (device.isa() >= Isa::avx2) return project_rows<Avx2Row>(device, y, tokens, w, bias);
#endif
    project_rows<PlainRow>(device, y, tokens, w, bias);
  }
}

}  // namespace golem::cpu
