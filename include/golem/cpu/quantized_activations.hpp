// The activations of a quantised product, set out chunk by chunk of columns for its kernels, as they are or rounded to int8.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "golem/config/quant.hpp"
#include "golem/core/math.hpp"
#include "golem/core/number.hpp"
#include "golem/core/tensor.hpp"

namespace golem::cpu {

/// Columns that kernels handle at once: the last chunk of a row is filled up with zeros. 64 bytes of INT4, 128 of INT8.
inline constexpr int chunk_columns = 128;

/// Columns that share a scale of weights and, where Q rounds activations, one of those.
template <Quant Q>
inline constexpr int block_columns = Q.block();
static_assert(Quant{}.block() == chunk_columns, "golem: kernels handle whole blocks");

inline std::int64_t chunks_of(std::int64_t columns) { return ceil_div(columns, chunk_columns); }

template <Quant Q>
std::int64_t blocks_of(std::int64_t columns) {
  return chunks_of(columns) * (chunk_columns / block_columns<Q>);
}

/// One row's scale for each of `blocks` blocks, from its scale for each group.
template <Quant Q>
void spread_scales(float* out, const float16* scales, std::int64_t groups, std::int64_t blocks) {
  for (std::int64_t b = 0; b < blocks; ++b) {
    std::int64_t group = 0;
    if constexpr (Q.group != 0) group = b * block_columns<Q> / Q.group;
    out[b] = group < groups ? static_cast<float>(scales[group]) : 0.0f;  // beyond the last column
  }
}

/// What a row kernel is given of the scales of the rows that it handles at once.
struct RowScales {
  float* scales;        // (rows, stride): of each block
  float* products;      // (rows * tokens, stride): room for those that have the activations' scales in them
  std::int64_t stride;  // blocks, rounded up to 16
};

/// Activations in their own precision, K = chunks * 128 columns.
template <class A>
struct ExactActivations {
  View<A, 3> values;  // (chunks, N, 128)
};

/// Activations as integers of a byte: x = value * scale, scale = the largest magnitude of a token's block / 127. Or, in
/// `planes` planes, x = (value 0 + 256 * value 1 + ..) * scale, and the planes are tokens of their own here.
struct Int8Activations {
  View<std::int8_t, 3> values;    // (chunks, N * planes, 128)
  View<float, 2> scales;          // (N, blocks rounded up to 16)
  View<std::int32_t, 3> offsets;  // (chunks, N * planes, lanes) what unsigned weights add to the sums, negated; VNNI alone needs it
};

/// Chunk `chunk` of token `token`, widened: zeros beyond the last column.
template <class A, class T>
void load_chunk(A* out, View<const T, 2> x, std::int64_t token, std::int64_t chunk) {
  const std::int64_t first = chunk * chunk_columns, count = smaller<std::int64_t>(chunk_columns, x.extent(1) - first);
  const T* from = x.data + token * x.extent(1) + first;
  for (std::int64_t c = 0; c < count; ++c) out[c] = static_cast<A>(from[c]);
  for (std::int64_t c = count; c < chunk_columns; ++c) out[c] = 0;
}

/// Sets out one token.
template <class A, class T>
void arrange_token(const ExactActivations<A>& to, View<const T, 2> x, std::int64_t token) {
  for (std::int64_t chunk = 0; chunk < to.values.extent(0); ++chunk) load_chunk(&to.values(chunk, token, 0), x, token, chunk);
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
      const BlockScale block_scale(largest, 127);
      *scale++ = block_scale.scale;
      constexpr float rounder = 0x1.8p23f;  // the sum has no bits left below 1: it rounds half to even, and its low bits are the integer
      for (int c = first; c < first + block; ++c)
        out[c] = static_cast<std::int8_t>(bits_as<std::int32_t>(values[c] * block_scale.inverse + rounder) - bits_as<std::int32_t>(rounder));
    }
  }
}

/// Room for N tokens of `columns` columns in the device's shared scratch.
template <class A, class D>
ExactActivations<A> take_exact(D& device, std::int64_t tokens, std::int64_t columns) {
  return {{device.template shared_scratch<A>(chunks_of(columns) * tokens * chunk_columns), chunks_of(columns), tokens, chunk_columns}};
}
template <Quant Q, int planes, class D>
Int8Activations take_int8(D& device, std::int64_t tokens, std::int64_t columns, int lanes) {
  const std::int64_t chunks = chunks_of(columns), blocks = round_up(blocks_of<Q>(columns), 16), rows = chunks * tokens * planes;
  auto* values = device.template shared_scratch<std::int8_t>(rows * (chunk_columns + lanes * 4) + tokens * blocks * 4);
  auto* offsets = reinterpret_cast<std::int32_t*>(values + rows * chunk_columns);
  auto* scales = reinterpret_cast<float*>(offsets + rows * lanes);
  return {{values, chunks, tokens * planes, chunk_columns}, {scales, tokens, blocks}, {offsets, chunks, tokens * planes, lanes}};
}

}  // namespace golem::cpu
