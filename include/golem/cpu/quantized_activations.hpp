// The activations of a quantised product, set out chunk by chunk of columns for its kernels, as they are or rounded to int8.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "golem/config/quant.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/math.hpp"
#include "golem/core/number.hpp"
#include "golem/core/tensor.hpp"

namespace golem::cpu {

/// Columns that kernels handle at once: the last chunk of a row is filled up with zeros. 64 bytes of INT4, 128 of INT8.
inline constexpr int chunk_columns = 128;

/// Columns that share a scale of weights and, where Q rounds activations, one of those: a group, but a chunk at most.
/// A token's outliers (spec 5.2) thus cost precision in their own block alone, and the integer sums of a block are exact.
template <Quant Q>
inline constexpr int block_columns = Q.group == 0 || Q.group > chunk_columns ? chunk_columns : Q.group;

inline std::int64_t chunks_of(std::int64_t columns) { return ceil_div(columns, chunk_columns); }

template <Quant Q>
std::int64_t blocks_of(std::int64_t columns) {
  return chunks_of(columns) * (chunk_columns / block_columns<Q>);
}

/// One row's scale for each of `blocks` blocks, from its scale for each group.
template <Quant Q>
void spread_scales(float* out, const float16* scales, std::int64_t groups, std::int64_t blocks) {
  for (std::int64_t b = 0; b < blocks; ++b) {
    const std::int64_t group = Q.group == 0 ? 0 : b * block_columns<Q> / Q.group;
    out[b] = group < groups ? static_cast<float>(scales[group]) : 0.0f;  // beyond the last column
  }
}

/// Where column c of a chunk lies among the activations of that chunk.
enum class ColumnOrder : std::uint8_t {
  plain,         // c
  even_odd,      // all even columns, then all odd ones: as the nibbles of a run of bytes fall apart
  nibble_major,  // (8, 16): nibble k, from the lowest, of 16 little-endian 32-bit words
};

template <ColumnOrder order>
constexpr int position_of(int column) {
  if (order == ColumnOrder::even_odd) return column % 2 * (chunk_columns / 2) + column / 2;
  if (order == ColumnOrder::nibble_major) return (column % 8 ^ 1) * 16 + column / 8;
  return column;
}

/// Activations in their own precision, K = chunks * 128 columns.
template <class A>
struct ExactActivations {
  View<A, 3> values;  // (chunks, N, 128)
};

/// Activations rounded to int8: x = value * scale, scale = the largest magnitude of a token's block / 127.
struct Int8Activations {
  View<std::int8_t, 3> values;    // (chunks, N, 128)
  View<float, 2> scales;          // (N, blocks)
  View<std::int32_t, 3> offsets;  // (chunks, N, lanes) what unsigned weights add to the sums, negated; VNNI alone needs it
};

/// Chunk `chunk` of token `token`, widened: zeros beyond the last column.
template <class A, class T>
void load_chunk(A (&out)[chunk_columns], View<const T, 2> x, std::int64_t token, std::int64_t chunk) {
  const std::int64_t first = chunk * chunk_columns, count = smaller<std::int64_t>(chunk_columns, x.extent(1) - first);
  const T* from = x.data + token * x.extent(1) + first;
  for (std::int64_t c = 0; c < count; ++c) out[c] = static_cast<A>(from[c]);
  for (std::int64_t c = count; c < chunk_columns; ++c) out[c] = 0;
}

/// Sets out one token.
template <ColumnOrder order, class A, class T>
void arrange_token(const ExactActivations<A>& to, View<const T, 2> x, std::int64_t token) {
  for (std::int64_t chunk = 0; chunk < to.values.extent(0); ++chunk) {
    A values[chunk_columns];
    load_chunk(values, x, token, chunk);
    A* out = &to.values(chunk, token, 0);
    for (int c = 0; c < chunk_columns; ++c) out[position_of<order>(c)] = values[c];
  }
}

/// The scale of a block from the bits of its largest magnitude. The largest bits are those of a NaN, then of infinity: both
/// reach the scale, and through it the result. Below 2^-100 a block counts as zero.
inline float int8_scale(std::uint32_t largest_bits) {
  return largest_bits < bits_as<std::uint32_t>(0x1p-100f) ? 0.0f : bits_as<float>(largest_bits) / 127.0f;
}
inline float int8_inverse(std::uint32_t largest_bits) {
  return largest_bits < bits_as<std::uint32_t>(0x1p-100f) ? 0.0f : 127.0f / bits_as<float>(largest_bits);
}

/// Sets out one token, rounded half to even.
template <Quant Q, class T>
void arrange_token(const Int8Activations& to, View<const T, 2> x, std::int64_t token) {
  constexpr int block = block_columns<Q>;
  float* scale = &to.scales(token, 0);
  for (std::int64_t chunk = 0; chunk < to.values.extent(0); ++chunk) {
    float values[chunk_columns];
    load_chunk(values, x, token, chunk);
    std::int8_t* out = &to.values(chunk, token, 0);
    for (int first = 0; first < chunk_columns; first += block) {
      std::uint32_t largest = 0;
      for (int c = first; c < first + block; ++c) largest = larger(largest, bits_as<std::uint32_t>(values[c]) & 0x7fffffffu);
      *scale++ = int8_scale(largest);
      const float inverse = int8_inverse(largest);
      constexpr float rounder = 0x1.8p23f;  // the sum has no bits left below 1: it rounds half to even, and its low bits are the integer
      for (int c = first; c < first + block; ++c)
        out[c] = static_cast<std::int8_t>(bits_as<std::int32_t>(values[c] * inverse + rounder) - bits_as<std::int32_t>(rounder));
    }
  }
}

/// The shapes of N tokens of `columns` columns, cut out of `arena`.
template <class A>
ExactActivations<A> take_exact(Arena& arena, std::int64_t tokens, std::int64_t columns) {
  return {arena.take<A>(chunks_of(columns), tokens, chunk_columns)};
}
template <Quant Q>
Int8Activations take_int8(Arena& arena, std::int64_t tokens, std::int64_t columns, int lanes) {
  return {arena.take<std::int8_t>(chunks_of(columns), tokens, chunk_columns), arena.take<float>(tokens, round_up(blocks_of<Q>(columns), 16)),
          arena.take<std::int32_t>(chunks_of(columns), tokens, lanes)};
}

}  // namespace golem::cpu
