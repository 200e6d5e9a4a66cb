// Quantised products on AVX-512 with the activations as they are: integers are widened to float, sums are held in float.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#if defined(__x86_64__)
#include "golem/cpu/intrinsics.hpp"

#include <cstdint>

#include "golem/cpu/quantized_vectors.hpp"

namespace golem::cpu {

/// -8 .. 7 by the nibble that stands for it.
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl"), gnu::always_inline]] inline __m512 nibble_values() {
  return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1);
}

/// A row of the matrix where it lies, times a few tokens: bound by memory for one token.
struct ExactRow {
  template <Quant Q>
  static constexpr ColumnOrder order = Q.bits == 4 ? ColumnOrder::nibble_major : ColumnOrder::plain;

  template <Quant Q>
  static const std::uint8_t* unpack(std::int8_t*, const std::uint8_t* bytes, std::int64_t) {
    return bytes;
  }
  template <Quant Q>
  static void spread(float* out, const float16* scales, std::int64_t groups, std::int64_t blocks) {
    spread_scales_avx512<Q>(out, scales, groups, blocks);
  }

  template <Quant Q, int tokens>
  [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]] static void dot(float (&sums)[tokens], const std::uint8_t* bytes, std::int64_t columns,
                                                                        const float* scales, const ExactActivations<float>& x, std::int64_t token) {
    constexpr int block = block_columns<Q>;
    const std::int64_t chunks = x.values.extent(0), stride = x.values.extent(1) * chunk_columns, row_bytes = Q.row_bytes(columns);
    const float* values = &x.values(0, token, 0);
    const __m512 table = nibble_values();
    __m512 total[tokens];
#pragma GCC unroll 4
    for (int t = 0; t < tokens; ++t) total[t] = _mm512_setzero_ps();
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk, values += stride, scales += chunk_columns / block) {
      if constexpr (Q.bits == 4) {
        const __m512i packed = load_bytes(bytes + chunk * 64, row_bytes - chunk * 64);
        _mm_prefetch(reinterpret_cast<const char*>(bytes + chunk * 64 + prefetch_bytes), _MM_HINT_T0);
        __m512 sum[tokens];
#pragma GCC unroll 8
        for (int k = 0; k < 8; ++k) {
          const __m512 w = _mm512_permutexvar_ps(_mm512_srli_epi32(packed, 4 * k), table);
#pragma GCC unroll 4
          for (int t = 0; t < tokens; ++t) {
            const __m512 v = _mm512_load_ps(values + t * chunk_columns + k * 16);
            sum[t] = k == 0 ? _mm512_mul_ps(w, v) : _mm512_fmadd_ps(w, v, sum[t]);
          }
        }
        const __m512 scale = lane_scales<chunk_columns / block>(scales);
#pragma GCC unroll 4
        for (int t = 0; t < tokens; ++t) total[t] = _mm512_fmadd_ps(sum[t], scale, total[t]);
      } else {
        const std::int64_t left = row_bytes - chunk * chunk_columns;
        const std::uint8_t* from = bytes + chunk * chunk_columns;
        _mm_prefetch(reinterpret_cast<const char*>(from + prefetch_bytes), _MM_HINT_T0);
        _mm_prefetch(reinterpret_cast<const char*>(from + prefetch_bytes + 64), _MM_HINT_T0);
#pragma GCC unroll 4
        for (int first = 0; first < chunk_columns; first += block) {
          __m512 sum[tokens];
#pragma GCC unroll 8
          for (int c = first; c < first + block; c += 16) {
            const __m128i packed =
                left >= c + 16 ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + c)) : _mm_maskz_loadu_epi8(first_lanes(left - c), from + c);
            const __m512 w = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(packed));
#pragma GCC unroll 4
            for (int t = 0; t < tokens; ++t) {
              const __m512 v = _mm512_load_ps(values + t * chunk_columns + c);
              sum[t] = c == first ? _mm512_mul_ps(w, v) : _mm512_fmadd_ps(w, v, sum[t]);
            }
          }
          const __m512 scale = _mm512_set1_ps(scales[first / block]);
#pragma GCC unroll 4
          for (int t = 0; t < tokens; ++t) total[t] = _mm512_fmadd_ps(sum[t], scale, total[t]);
        }
      }
    }
#pragma GCC unroll 4
    for (int t = 0; t < tokens; ++t) sums[t] = _mm512_reduce_add_ps(total[t]);
  }

 private:
  static constexpr int prefetch_bytes = 2048;
};

/// 64 rows of a chunk, unpacked into cache, times all tokens: bound by arithmetic.
struct ExactTile {
  using Tokens = ExactActivations<float>;
  static constexpr std::int64_t bytes = chunk_columns * tile_rows * 4;  // (128, 64) floats: weights in the order of the activations

  /// scales: (blocks of the chunk, 64).
  template <Quant Q>
  [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]] static void unpack(std::byte* memory, View<const std::uint8_t, 2> data, const float* scales,
                                                                           std::int64_t row, std::int64_t chunk) {
    constexpr int block = block_columns<Q>;
    auto* tile = reinterpret_cast<float*>(memory);
    const __m512 table = nibble_values();
    for (int quarter = 0; quarter < tile_rows; quarter += 16) {
      for (int half = 0; half < (Q.bits == 4 ? 1 : 2); ++half) {
        __m512i words[16];
        load_transposed(words, data, row + quarter, chunk * Q.row_bytes(chunk_columns) + half * 64);
#pragma GCC unroll 16
        for (int j = 0; j < 16; ++j) {
          if constexpr (Q.bits == 4) {
            const __m512 scale = _mm512_loadu_ps(scales + j * 8 / block * tile_rows + quarter);
#pragma GCC unroll 8
            for (int k = 0; k < 8; ++k)
              _mm512_store_ps(tile + (k * 16 + j) * tile_rows + quarter,
                              _mm512_mul_ps(_mm512_permutexvar_ps(_mm512_srli_epi32(words[j], 4 * k), table), scale));
          } else {
            const __m512 scale = _mm512_loadu_ps(scales + (half * 64 + j * 4) / block * tile_rows + quarter);
#pragma GCC unroll 4
            for (int k = 0; k < 4; ++k)
              _mm512_store_ps(tile + (half * 64 + j * 4 + k) * tile_rows + quarter,
                              _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(words[j], 24 - 8 * k), 24)), scale));
          }
        }
      }
    }
  }

  /// sums (tokens, 64) += tile times tokens first .. first + count - 1.
  template <Quant Q, int tokens>
  [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]] static void multiply(float* sums, const std::byte* memory, const float*, const Tokens& x,
                                                                             std::int64_t chunk, std::int64_t token) {
    const auto* tile = reinterpret_cast<const float*>(memory);
    const float* values = &x.values(chunk, token, 0);
    __m512 sum[tokens][4];
#pragma GCC unroll 6
    for (int t = 0; t < tokens; ++t)
#pragma GCC unroll 4
      for (int q = 0; q < 4; ++q) sum[t][q] = _mm512_load_ps(sums + t * tile_rows + q * 16);
    for (int c = 0; c < chunk_columns; ++c, tile += tile_rows) {
      __m512 w[4];
#pragma GCC unroll 4
      for (int q = 0; q < 4; ++q) w[q] = _mm512_load_ps(tile + q * 16);
#pragma GCC unroll 6
      for (int t = 0; t < tokens; ++t) {
        const __m512 v = _mm512_set1_ps(values[t * chunk_columns + c]);
#pragma GCC unroll 4
        for (int q = 0; q < 4; ++q) sum[t][q] = _mm512_fmadd_ps(w[q], v, sum[t][q]);
      }
    }
#pragma GCC unroll 6
    for (int t = 0; t < tokens; ++t)
#pragma GCC unroll 4
      for (int q = 0; q < 4; ++q) _mm512_store_ps(sums + t * tile_rows + q * 16, sum[t][q]);
  }
};

}  // namespace golem::cpu
#endif
