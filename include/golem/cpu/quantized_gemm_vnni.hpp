// Quantised products on AVX-512 VNNI with activations rounded to int8: integer dot products, exact within a block of columns.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#if defined(__x86_64__)
#include "golem/cpu/intrinsics.hpp"

#include <cstdint>

#include "golem/cpu/quantized_vectors.hpp"

namespace golem::cpu {

// vpdpbusd multiplies unsigned by signed bytes. Weights are made unsigned by adding 8 or 128; that adds 8 or 128 times the
// sum of a block's activations to its result, and each sum starts from minus that (Int8Activations::offsets).

/// The unsigned high nibbles (even columns) and low nibbles (odd columns) of 64 bytes of INT4.
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl"), gnu::always_inline]] inline __m512i even_columns(__m512i packed) {
  return _mm512_ternarylogic_epi32(_mm512_srli_epi32(packed, 4), _mm512_set1_epi8(15), _mm512_set1_epi8(8), 0x6a);  // (a & b) ^ c
}
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl"), gnu::always_inline]] inline __m512i odd_columns(__m512i packed) {
  return _mm512_ternarylogic_epi32(packed, _mm512_set1_epi8(15), _mm512_set1_epi8(8), 0x6a);
}
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl"), gnu::always_inline]] inline __m512i unsigned_bytes(__m512i packed) {
  return _mm512_xor_si512(packed, _mm512_set1_epi8(-128));
}

/// 32-bit lanes of offsets that a chunk has: block b's lies where its sum begins, at b * lanes / blocks, all others are zero.
template <Quant Q>
inline constexpr int offset_lanes = Q.bits == 4 ? 16 : 32;

/// Sets out one token as arrange_token does, in the order and with the offsets that these kernels need.
template <Quant Q, class T>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]] void arrange_token_vnni(const Int8Activations& to, View<const T, 2> x,
                                                                                         std::int64_t token) {
  constexpr int block = block_columns<Q>;
  const T* from = x.data + token * x.extent(1);
  float* scale = &to.scales(token, 0);
  for (std::int64_t chunk = 0; chunk < to.values.extent(0); ++chunk) {
    std::int32_t* offsets = &to.offsets(chunk, token, 0);
    for (int lane = 0; lane < offset_lanes<Q>; ++lane) offsets[lane] = 0;
    alignas(64) std::int8_t rounded[chunk_columns];
    for (int first = 0; first < chunk_columns; first += block, ++scale) {
      __m512 values[block / 16];
      __m512i largest = _mm512_setzero_si512();
#pragma GCC unroll 8
      for (int i = 0; i < block / 16; ++i) {
        const std::int64_t column = chunk * chunk_columns + first + i * 16;
        values[i] = load_numbers(from + column, first_lanes(x.extent(1) - column));
        largest = _mm512_max_epu32(largest, _mm512_and_si512(_mm512_castps_si512(values[i]), _mm512_set1_epi32(0x7fffffff)));
      }
      const std::uint32_t bits = _mm512_reduce_max_epu32(largest);
      *scale = int8_scale(bits);
      const __m512 inverse = _mm512_set1_ps(int8_inverse(bits));
      __m512i sum = _mm512_setzero_si512();
#pragma GCC unroll 8
      for (int i = 0; i < block / 16; ++i) {
        const __m512i integers = _mm512_cvtps_epi32(_mm512_mul_ps(values[i], inverse));
        sum = _mm512_add_epi32(sum, integers);
        _mm_store_si128(reinterpret_cast<__m128i*>(rounded + first + i * 16), _mm512_cvtepi32_epi8(integers));
      }
      offsets[first * offset_lanes<Q> / chunk_columns] = -(Q.bits == 4 ? 8 : 128) * _mm512_reduce_add_epi32(sum);
    }
    const __m512i low = _mm512_load_si512(rounded), high = _mm512_load_si512(rounded + 64);
    std::int8_t* out = &to.values(chunk, token, 0);
    if constexpr (Q.bits == 8) {
      _mm512_store_si512(out, low);
      _mm512_store_si512(out + 64, high);
    } else {
      _mm256_store_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi16_epi8(low));
      _mm256_store_si256(reinterpret_cast<__m256i*>(out + 32), _mm512_cvtepi16_epi8(high));
      _mm256_store_si256(reinterpret_cast<__m256i*>(out + 64), _mm512_cvtepi16_epi8(_mm512_srli_epi16(low, 8)));
      _mm256_store_si256(reinterpret_cast<__m256i*>(out + 96), _mm512_cvtepi16_epi8(_mm512_srli_epi16(high, 8)));
    }
  }
}

/// A row of the matrix where it lies, times a few tokens: bound by memory.
struct VnniRow {
  template <Quant Q>
  static const std::uint8_t* unpack(std::int8_t*, const std::uint8_t* bytes, std::int64_t) {
    return bytes;
  }
  template <Quant Q>
  static void spread(float* out, const float16* scales, std::int64_t groups, std::int64_t blocks) {
    spread_scales_avx512<Q>(out, scales, groups, blocks);
  }

  template <Quant Q, int tokens>
  [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]] static void dot(float (&sums)[tokens], const std::uint8_t* bytes,
                                                                                   std::int64_t columns, const float* scales,
                                                                                   const Int8Activations& x, std::int64_t token) {
    constexpr int block = block_columns<Q>, blocks = chunk_columns / block;
    const std::int64_t chunks = x.values.extent(0), count = x.values.extent(1), row_bytes = Q.row_bytes(columns), scale_stride = x.scales.extent(1);
    const std::int8_t* values = &x.values(0, token, 0);
    const std::int32_t* offsets = &x.offsets(0, token, 0);
    const float* token_scales = &x.scales(token, 0);
    __m512 total[tokens];
#pragma GCC unroll 4
    for (int t = 0; t < tokens; ++t) total[t] = _mm512_setzero_ps();
    for (std::int64_t chunk = 0; chunk < chunks;
         ++chunk, values += count * chunk_columns, offsets += count * offset_lanes<Q>, scales += blocks, token_scales += blocks) {
      const std::uint8_t* from = bytes + chunk * Q.row_bytes(chunk_columns);
      const std::int64_t left = row_bytes - chunk * Q.row_bytes(chunk_columns);
      _mm_prefetch(reinterpret_cast<const char*>(from + prefetch_bytes), _MM_HINT_T0);
      const __m512i packed = load_bytes(from, left);
      if constexpr (Q.bits == 4) {
        const __m512i even = even_columns(packed), odd = odd_columns(packed);
        const __m512 scale = lane_scales<blocks>(scales);
#pragma GCC unroll 4
        for (int t = 0; t < tokens; ++t) {
          __m512i sum = _mm512_load_si512(offsets + t * 16);
          sum = _mm512_dpbusd_epi32(sum, even, _mm512_load_si512(values + t * chunk_columns));
          sum = _mm512_dpbusd_epi32(sum, odd, _mm512_load_si512(values + t * chunk_columns + 64));
          total[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(scale, lane_scales<blocks>(token_scales + t * scale_stride)), total[t]);
        }
      } else {
        _mm_prefetch(reinterpret_cast<const char*>(from + prefetch_bytes + 64), _MM_HINT_T0);
        const __m512i low = unsigned_bytes(packed), high = unsigned_bytes(load_bytes(from + 64, left - 64));
#pragma GCC unroll 4
        for (int t = 0; t < tokens; ++t) {
          __m512i sum = _mm512_dpbusd_epi32(_mm512_load_si512(offsets + t * 32), low, _mm512_load_si512(values + t * chunk_columns));
          if constexpr (blocks > 1) {
            total[t] =
                _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum),
                                _mm512_mul_ps(lane_scales<blocks / 2>(scales), lane_scales<blocks / 2>(token_scales + t * scale_stride)), total[t]);
            sum = _mm512_load_si512(offsets + t * 32 + 16);
          }
          sum = _mm512_dpbusd_epi32(sum, high, _mm512_load_si512(values + t * chunk_columns + 64));
          constexpr int last = blocks / 2, lanes_blocks = blocks > 1 ? blocks / 2 : 1;
          total[t] = _mm512_fmadd_ps(
              _mm512_cvtepi32_ps(sum),
              _mm512_mul_ps(lane_scales<lanes_blocks>(scales + last), lane_scales<lanes_blocks>(token_scales + t * scale_stride + last)), total[t]);
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
struct VnniTile {
  using Words = int [[gnu::vector_size(64)]];
  using Tokens = Int8Activations;
  static constexpr std::int64_t bytes = chunk_columns * tile_rows;  // (32, 64, 4) unsigned weights: four columns in the order of the activations

  template <Quant Q>
  [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]] static void unpack(std::byte* tile, View<const std::uint8_t, 2> data, const float*,
                                                                                      std::int64_t row, std::int64_t chunk) {
    for (int quarter = 0; quarter < 4; ++quarter) {
      for (int half = 0; half < (Q.bits == 4 ? 1 : 2); ++half) {
        __m512i words[16];
        load_transposed(words, data, row + quarter * 16, chunk * Q.row_bytes(chunk_columns) + half * 64);
        std::byte* to = tile + half * 4096 + quarter * 64;
#pragma GCC unroll 16
        for (int j = 0; j < 16; ++j) {
          if constexpr (Q.bits == 4) {
            _mm512_store_si512(to + j * 256, even_columns(words[j]));
            _mm512_store_si512(to + 4096 + j * 256, odd_columns(words[j]));
          } else {
            _mm512_store_si512(to + j * 256, unsigned_bytes(words[j]));
          }
        }
      }
    }
  }

  template <Quant Q, int tokens>
  [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]] static void multiply(float* sums, const std::byte* tile, const float* scales,
                                                                                        const Tokens& x, std::int64_t chunk, std::int64_t token) {
    constexpr int block = block_columns<Q>, blocks = chunk_columns / block;
    constexpr int runs = Q.bits == 4 ? 2 : 1, steps = block / 4 / runs;  // a block of INT4 has its even columns in one run, its odd ones in another
    const std::int8_t* values = &x.values(chunk, token, 0);
    const std::int32_t* offsets = &x.offsets(chunk, token, 0);
    for (int b = 0; b < blocks; ++b, scales += tile_rows) {
      Words sum[tokens][4];
#pragma GCC unroll 6
      for (int t = 0; t < tokens; ++t)
#pragma GCC unroll 4
        for (int q = 0; q < 4; ++q) sum[t][q] = (Words)_mm512_set1_epi32(offsets[t * offset_lanes<Q> + b * offset_lanes<Q> / blocks]);
      for (int run = 0; run < runs; ++run) {
        const std::byte* weights = tile + (run * 16 + b * steps) * 256;
        const std::int8_t* bytes = values + (run * 16 + b * steps) * 4;
        for (int step = 0; step < steps; ++step, weights += 256, bytes += 4) {
          __m512i w[4];
#pragma GCC unroll 4
          for (int q = 0; q < 4; ++q) w[q] = _mm512_load_si512(weights + q * 64);
#pragma GCC unroll 6
          for (int t = 0; t < tokens; ++t) {
            std::int32_t four;
            __builtin_memcpy(&four, bytes + t * chunk_columns, 4);
            const __m512i v = _mm512_set1_epi32(four);
#pragma GCC unroll 4
            for (int q = 0; q < 4; ++q) sum[t][q] = (Words)_mm512_dpbusd_epi32((__m512i)sum[t][q], w[q], v);
          }
        }
      }
#pragma GCC unroll 6
      for (int t = 0; t < tokens; ++t) {
        const __m512 token_scale = _mm512_set1_ps(x.scales(token + t, chunk * blocks + b));
#pragma GCC unroll 4
        for (int q = 0; q < 4; ++q) {
          float* to = sums + t * tile_rows + q * 16;
          _mm512_store_ps(
              to, _mm512_fmadd_ps(_mm512_cvtepi32_ps((__m512i)sum[t][q]), _mm512_mul_ps(_mm512_loadu_ps(scales + q * 16), token_scale), _mm512_load_ps(to)));
        }
      }
    }
  }
};

}  // namespace golem::cpu
#endif
