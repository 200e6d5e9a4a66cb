// What the AVX-512 kernels of quantised products share: loads that end with the matrix, number types, transposes, scales.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#if defined(__x86_64__)
#include <cstdint>

#include "golem/config/quantized_tensor.hpp"
#include "golem/core/math.hpp"
#include "golem/cpu/intrinsics.hpp"
#include "golem/cpu/quantized_activations.hpp"

namespace golem::cpu {

/// 64 bytes, of which `left` are there: the others are zero.
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl"), gnu::always_inline]] inline __m512i load_bytes(const std::uint8_t* from, std::int64_t left) {
  if (left >= 64) [[likely]]
    return _mm512_loadu_si512(from);
  return left <= 0 ? _mm512_setzero_si512() : _mm512_maskz_loadu_epi8(~std::uint64_t{0} >> (64 - left), from);
}

/// Of 16 elements, the first `count`: 16 or more is all of them.
inline std::uint16_t first_lanes(std::int64_t count) { return static_cast<std::uint16_t>(count >= 16 ? 0xffff : count <= 0 ? 0 : (1 << count) - 1); }

[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl"), gnu::always_inline]] inline __m512 load_numbers(const float* from, __mmask16 there) {
  return _mm512_maskz_loadu_ps(there, from);
}
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl"), gnu::always_inline]] inline __m512 load_numbers(const bfloat16* from, __mmask16 there) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, from)), 16));
}
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl"), gnu::always_inline]] inline __m512 load_numbers(const float16* from, __mmask16 there) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(there, from));
}

[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl"), gnu::always_inline]] inline void store_numbers(float* to, __mmask16 there, __m512 v) {
  _mm512_mask_storeu_ps(to, there, v);
}
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl"), gnu::always_inline]] inline void store_numbers(bfloat16* to, __mmask16 there, __m512 v) {
  const __m512i bits = _mm512_castps_si512(v), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  const __m512i kept = _mm512_mask_or_epi32(rounded, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), bits, _mm512_set1_epi32(0x400000));
  _mm256_mask_storeu_epi16(to, there, _mm512_cvtepi32_epi16(_mm512_srli_epi32(kept, 16)));
}
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl"), gnu::always_inline]] inline void store_numbers(float16* to, __mmask16 there, __m512 v) {
  _mm256_mask_storeu_epi16(to, there, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/// Rows become columns: 16 rows of 16 32-bit words, in place.
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl"), gnu::always_inline]] inline void transpose(__m512i (&v)[16]) {
  __m512i pairs[16], quads[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    quads[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
    quads[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
    quads[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    quads[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // quads[4g + i] has column 4q + i of rows 4g .. 4g + 3 in its quarter q
    const __m512i low = _mm512_shuffle_i32x4(quads[i], quads[4 + i], 0x88), high = _mm512_shuffle_i32x4(quads[8 + i], quads[12 + i], 0x88);
    const __m512i low_odd = _mm512_shuffle_i32x4(quads[i], quads[4 + i], 0xdd), high_odd = _mm512_shuffle_i32x4(quads[8 + i], quads[12 + i], 0xdd);
    v[i] = _mm512_shuffle_i32x4(low, high, 0x88);
    v[4 + i] = _mm512_shuffle_i32x4(low_odd, high_odd, 0x88);
    v[8 + i] = _mm512_shuffle_i32x4(low, high, 0xdd);
    v[12 + i] = _mm512_shuffle_i32x4(low_odd, high_odd, 0xdd);
  }
}

/// 64 bytes of each of 16 rows, as 16 vectors: lane r of vector j is word j of row first + r, or of the last row.
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl"), gnu::always_inline]] inline void load_transposed(__m512i (&v)[16],
                                                                                                      View<const std::uint8_t, 2> data,
                                                                                                      std::int64_t first, std::int64_t byte) {
  const std::int64_t stride = data.extent(1), last = data.extent(0) - 1;
#pragma GCC unroll 16
  for (int r = 0; r < 16; ++r) v[r] = load_bytes(data.data + smaller(first + r, last) * stride + byte, stride - byte);
  transpose(v);
}

/// The scale of each lane, of a vector that `blocks` blocks share: scales[0 .. blocks).
template <int blocks>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl"), gnu::always_inline]] inline __m512 lane_scales(const float* scales) {
  static_assert(blocks == 1 || blocks == 2 || blocks == 4);
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  if constexpr (blocks == 1)
    return _mm512_set1_ps(*scales);
  else if constexpr (blocks == 2)
    return _mm512_permutexvar_ps(_mm512_srli_epi32(lanes, 3), _mm512_castsi512_ps(_mm512_castsi128_si512(_mm_loadu_si64(scales))));
  else
    return _mm512_permutexvar_ps(_mm512_srli_epi32(lanes, 2), _mm512_castps128_ps512(_mm_loadu_ps(scales)));
}

/// One row's scale for each of `blocks` blocks, from its scale for each group; written in sixteens.
template <Quant Q>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]] inline void spread_scales_avx512(float* out, const float16* scales, std::int64_t groups,
                                                                                       std::int64_t blocks) {
  if constexpr (Q.group > chunk_columns)
    spread_scales<Q>(out, scales, groups, blocks);
  else
    for (std::int64_t b = 0; b < blocks; b += 16)
      _mm512_storeu_ps(out + b, Q.group == 0 ? _mm512_set1_ps(static_cast<float>(scales[0])) : load_numbers(scales + b, first_lanes(groups - b)));
}

/// Rows of a tile.
inline constexpr int tile_rows = 64;

/// scales (blocks, 64): of rows row .. row + 63, or the last one's; by way of `by_row` (16, blocks). `blocks` is a multiple of 16.
template <Quant Q>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]] inline void tile_scales(float* scales, float* by_row, View<const float16, 2> from,
                                                                              std::int64_t row, std::int64_t blocks) {
  const std::int64_t groups = from.extent(1);
  for (int quarter = 0; quarter < tile_rows; quarter += 16) {
    for (int r = 0; r < 16; ++r)
      spread_scales_avx512<Q>(by_row + r * blocks, from.data + smaller(row + quarter + r, from.extent(0) - 1) * groups, groups, blocks);
    for (std::int64_t b = 0; b < blocks; b += 16) {
      __m512i v[16];
#pragma GCC unroll 16
      for (int r = 0; r < 16; ++r) v[r] = _mm512_loadu_si512(by_row + r * blocks + b);
      transpose(v);
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) _mm512_storeu_si512(scales + (b + i) * tile_rows + quarter, v[i]);
    }
  }
}

/// y(first + t, row + r) = sums (count, 64) + bias, for the rows that there are.
template <class T>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]] inline void store_tile(View<T, 2> y, const float* sums, View<const T, 1> bias, std::int64_t row,
                                                                             std::int64_t first, std::int64_t count) {
  const std::int64_t left = y.extent(1) - row;
  for (std::int64_t t = 0; t < count; ++t)
    for (int quarter = 0; quarter < tile_rows && quarter < left; quarter += 16) {
      const __mmask16 there = first_lanes(left - quarter);
      const __m512 b = bias ? load_numbers(bias.data + row + quarter, there) : _mm512_setzero_ps();
      store_numbers(y.data + (first + t) * y.extent(1) + row + quarter, there, _mm512_add_ps(_mm512_load_ps(sums + t * tile_rows + quarter), b));
    }
}

}  // namespace golem::cpu
#endif
