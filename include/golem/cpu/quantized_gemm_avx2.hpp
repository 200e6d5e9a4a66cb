// Rows of a quantised matrix, times a few tokens, on AVX2.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#if defined(__x86_64__)
#include <cstdint>
#include <cstring>

#include "golem/cpu/intrinsics.hpp"
#include "golem/cpu/quantized_activations.hpp"
#include "golem/cpu/quantized_gemm_plain.hpp"

namespace golem::cpu {

[[gnu::target("avx2,fma,f16c"), gnu::always_inline]] inline float sum_of_lanes(__m256 v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/// The row kernels of PlainRow, in vectors of 32 bytes.
struct Avx2Row {
  static constexpr int rows = 1, tokens = 4;  // at once

  template <Quant Q>
  [[gnu::target("avx2,fma,f16c")]] static const std::int8_t* unpack(std::int8_t* weights, const std::uint8_t* bytes, std::int64_t columns) {
    if constexpr (Q.bits == 8) return PlainRow::unpack<Q>(weights, bytes, columns);
    std::int64_t done = 0;
    for (; done + 32 <= columns; done += 32) {  // a byte becomes a 16-bit word: its high nibble the lower byte, the even column
      const __m256i words = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + done / 2)));
      const __m256i nibbles = _mm256_and_si256(_mm256_or_si256(_mm256_srli_epi16(words, 4), _mm256_slli_epi16(words, 8)), _mm256_set1_epi8(15));
      const __m256i eight = _mm256_set1_epi8(8);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(weights + done), _mm256_sub_epi8(_mm256_xor_si256(nibbles, eight), eight));
    }
    PlainRow::unpack<Q>(weights + done, bytes + done / 2, columns - done);
    return weights;
  }
  template <Quant Q>
  static void spread(float* out, const float16* scales, std::int64_t groups, std::int64_t blocks) {
    spread_scales<Q>(out, scales, groups, blocks);
  }

  template <Quant Q, int rows, int tokens>
  [[gnu::target("avx2,fma,f16c")]] static void dot(float* sums, const std::int8_t* weights, std::int64_t, const RowScales& scales,
                                                   const ExactActivations<float>& x, std::int64_t token) {
    constexpr int block = block_columns<Q>;
    __m256 total[tokens];
#pragma GCC unroll 4
    for (int t = 0; t < tokens; ++t) total[t] = _mm256_setzero_ps();
    for (std::int64_t first = 0; first < x.values.extent(0) * chunk_columns; first += block) {
      const float* values = &x.values(first / chunk_columns, token, first % chunk_columns);
      __m256 sum[tokens];
#pragma GCC unroll 4
      for (int t = 0; t < tokens; ++t) sum[t] = _mm256_setzero_ps();
      for (int c = 0; c < block; c += 8) {
        const __m256 w = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(weights + first + c))));
#pragma GCC unroll 4
        for (int t = 0; t < tokens; ++t) sum[t] = _mm256_fmadd_ps(w, _mm256_loadu_ps(values + t * chunk_columns + c), sum[t]);
      }
#pragma GCC unroll 4
      for (int t = 0; t < tokens; ++t) total[t] = _mm256_fmadd_ps(sum[t], _mm256_set1_ps(scales.scales[first / block]), total[t]);
    }
    for (int t = 0; t < tokens; ++t) sums[t] = sum_of_lanes(total[t]);
  }

  template <Quant Q, int rows, int tokens>
  [[gnu::target("avx2,fma,f16c")]] static void dot(float* sums, const std::int8_t* weights, std::int64_t, const RowScales& scales,
                                                   const Int8Activations& x, std::int64_t token) {
    constexpr int block = block_columns<Q>;
    __m256 total[tokens];
#pragma GCC unroll 4
    for (int t = 0; t < tokens; ++t) total[t] = _mm256_setzero_ps();
    for (std::int64_t first = 0; first < x.values.extent(0) * chunk_columns; first += block) {
      const std::int8_t* values = &x.values(first / chunk_columns, token, first % chunk_columns);
      __m256i sum[tokens];
#pragma GCC unroll 4
      for (int t = 0; t < tokens; ++t) sum[t] = _mm256_setzero_si256();
      for (int c = 0; c < block; c += 32) {  // vpmaddubsw wants one operand unsigned: |w|, with w's sign moved to x. 2 * 128 * 127 fits 16 bits.
        const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights + first + c)), magnitude = _mm256_abs_epi8(w);
#pragma GCC unroll 4
        for (int t = 0; t < tokens; ++t) {
          const __m256i v = _mm256_sign_epi8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + t * chunk_columns + c)), w);
          sum[t] = _mm256_add_epi32(sum[t], _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, v), _mm256_set1_epi16(1)));
        }
      }
#pragma GCC unroll 4
      for (int t = 0; t < tokens; ++t)
        total[t] =
            _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[t]), _mm256_set1_ps(scales.scales[first / block] * x.scales(token + t, first / block)), total[t]);
    }
    for (int t = 0; t < tokens; ++t) sums[t] = sum_of_lanes(total[t]);
  }
};

}  // namespace golem::cpu
#endif
