// Quantised products on AVX-512 VNNI: integer dot products, exact within a block of columns, of activations in int8, or in two or three planes of it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#if defined(__x86_64__)
#include <cstdint>
#include <limits>

#include "golem/cpu/intrinsics.hpp"
#include "golem/cpu/quantized_vectors.hpp"

namespace golem::cpu {

// vpdpbusd multiplies unsigned by signed bytes. Weights are made unsigned by adding 8 or 128; that adds 8 or 128 times the
// sum of a block's activations to its result, and each sum starts from minus that (Int8Activations::offsets).

/// Sixteen sums. As ints: GCC 12 copies accumulators of type __m512i at each step.
typedef std::int32_t Words __attribute__((vector_size(64), may_alias));

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

/// 128 integers of int8 in the order of Q's columns.
template <Quant Q>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"), gnu::always_inline]] inline void store_chunk(std::int8_t* to,
                                                                                                             const std::int8_t* from) {
  const __m512i low = _mm512_load_si512(from), high = _mm512_load_si512(from + 64);
  if constexpr (Q.bits == 8) {
    _mm512_store_si512(to, low);
    _mm512_store_si512(to + 64, high);
  } else {
    _mm256_store_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi16_epi8(low));
    _mm256_store_si256(reinterpret_cast<__m256i*>(to + 32), _mm512_cvtepi16_epi8(high));
    _mm256_store_si256(reinterpret_cast<__m256i*>(to + 64), _mm512_cvtepi16_epi8(_mm512_srli_epi16(low, 8)));
    _mm256_store_si256(reinterpret_cast<__m256i*>(to + 96), _mm512_cvtepi16_epi8(_mm512_srli_epi16(high, 8)));
  }
}

/// Sets out one token: integers of -limit .. limit, with a scale for each block, one byte of them in each plane. One plane
/// is what arrange_token does. Three hold 24 bits: each value within 2^-23 of the largest magnitude of its block, as near
/// as a sum in float comes. Two hold 16, twice the bits of bfloat16.
template <Quant Q, int planes, class T>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]] void arrange_token_vnni(const Int8Activations& to, View<const T, 2> x,
                                                                                         std::int64_t token) {
  constexpr int block = block_columns<Q>;
  constexpr auto limit = static_cast<float>(127 << 8 * (planes - 1));
  const T* from = x.data + token * x.extent(1);
  for (std::int64_t chunk = 0; chunk < to.values.extent(0); ++chunk) {
    alignas(64) std::int8_t integers[planes][chunk_columns];
    for (int p = 0; p < planes; ++p)
      for (int lane = 0; lane < offset_lanes<Q>; ++lane) to.offsets(chunk, token * planes + p, lane) = 0;
    for (int first = 0; first < chunk_columns; first += block) {
      __m512 values[block / 16];
      __m512i largest = _mm512_setzero_si512();
#pragma GCC unroll 8
      for (int i = 0; i < block / 16; ++i) {
        const std::int64_t column = chunk * chunk_columns + first + i * 16;
        values[i] = load_numbers(from + column, first_lanes(x.extent(1) - column));
        largest = _mm512_max_epu32(largest, _mm512_and_si512(_mm512_castps_si512(values[i]), _mm512_set1_epi32(0x7fffffff)));
      }
      const std::uint32_t largest_bits = _mm512_reduce_max_epu32(largest);
      const BlockScale scale(largest_bits, limit);
      const __mmask16 finite = largest_bits < bits_as<std::uint32_t>(std::numeric_limits<float>::infinity()) ? 0xffff : 0;  // else the scale makes the sums what they are
      __m512i sums[planes] = {};
#pragma GCC unroll 8
      for (int i = 0; i < block / 16; ++i) {
        __m512i rest = _mm512_maskz_cvtps_epi32(finite, _mm512_mul_ps(values[i], _mm512_set1_ps(scale.inverse)));
#pragma GCC unroll 3
        for (int p = 0; p < planes; ++p) {
          const __m512i digit = p == planes - 1 ? rest : _mm512_srai_epi32(_mm512_slli_epi32(rest, 24), 24);  // -128 .. 127
          rest = _mm512_srai_epi32(_mm512_sub_epi32(rest, digit), 8);
          sums[p] = _mm512_add_epi32(sums[p], digit);
          _mm_store_si128(reinterpret_cast<__m128i*>(integers[p] + first + i * 16), _mm512_cvtepi32_epi8(digit));
        }
      }
      to.scales(token, (chunk * chunk_columns + first) / block) = scale.scale;
      for (int p = 0; p < planes; ++p)
        to.offsets(chunk, token * planes + p, first * offset_lanes<Q> / chunk_columns) = -(Q.bits == 4 ? 8 : 128) * _mm512_reduce_add_epi32(sums[p]);
    }
    for (int p = 0; p < planes; ++p) store_chunk<Q>(&to.values(chunk, token * planes + p, 0), integers[p]);
  }
}

/// The integer sums of a token's planes as one float each.
template <int planes>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"), gnu::always_inline]] inline __m512 joined(const Words* sums, int stride) {
  __m512 value = _mm512_cvtepi32_ps((__m512i)sums[(planes - 1) * stride]);
#pragma GCC unroll 3
  for (int p = planes - 2; p >= 0; --p) value = _mm512_fmadd_ps(value, _mm512_set1_ps(256.0f), _mm512_cvtepi32_ps((__m512i)sums[p * stride]));
  return value;
}

/// Rows of the matrix where they lie, times a few tokens: bound by memory.
template <int planes>
struct VnniRow {
  static constexpr int rows = 4, tokens = planes == 1 ? 4 : 2;  // at once
  /// Up to as many it is faster than a tile, though it meets them a few at a time (bench_quantized_gemm).
  template <Quant Q>
  static constexpr int most_tokens = planes > 1 ? tokens : Q.bits == 8 ? 16 : 8;

  template <Quant Q>
  static const std::uint8_t* unpack(std::int8_t*, const std::uint8_t* bytes, std::int64_t) {
    return bytes;
  }
  template <Quant Q>
  static void spread(float* out, const float16* scales, std::int64_t groups, std::int64_t blocks) {
    spread_scales_avx512<Q>(out, scales, groups, blocks);
  }

  /// sums (rows, tokens).
  template <Quant Q, int rows, int tokens>
  [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]] static void dot(float* sums, const std::uint8_t* bytes, std::int64_t columns,
                                                                                   const RowScales& scales, const Int8Activations& x,
                                                                                   std::int64_t token) {
    constexpr int block = block_columns<Q>, blocks = chunk_columns / block, vectors = Q.bits == 4 ? 1 : 2;  // of 64 bytes
    constexpr int drains = vectors == 2 && blocks > 1 ? 2 : 1, blocks_per_drain = blocks / drains;
    const std::int64_t chunks = x.values.extent(0), count = x.values.extent(1), row_bytes = Q.row_bytes(columns), stride = scales.stride;
    for (int r = 0; r < rows; ++r)
      for (int t = 0; t < tokens; ++t)
        for (std::int64_t b = 0; b < stride; b += 16)
          _mm512_storeu_ps(scales.products + (r * tokens + t) * stride + b,
                           _mm512_mul_ps(_mm512_loadu_ps(scales.scales + r * stride + b), _mm512_loadu_ps(&x.scales(token + t, b))));
    const std::int8_t* values = &x.values(0, token * planes, 0);
    const std::int32_t* offsets = &x.offsets(0, token * planes, 0);
    const float* products = scales.products;
    const std::uint8_t* next = bytes + 2 * rows * row_bytes;  // the rows of the call after next
    __m512 total[rows][tokens];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
      for (int t = 0; t < tokens; ++t) total[r][t] = _mm512_setzero_ps();
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
      const std::int64_t left = row_bytes - chunk * vectors * 64;
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) {
        const std::uint8_t* from = bytes + r * row_bytes;
        for (int i = 0; i < vectors; ++i) _mm_prefetch(reinterpret_cast<const char*>(next + r * row_bytes + i * 64), _MM_HINT_T1);
        __m512i w[2];  // 64 columns each
        if constexpr (Q.bits == 4) {
          const __m512i packed = load_bytes(from, left);
          w[0] = even_columns(packed), w[1] = odd_columns(packed);
        } else {
          w[0] = unsigned_bytes(load_bytes(from, left)), w[1] = unsigned_bytes(load_bytes(from + 64, left - 64));
        }
#pragma GCC unroll 2
        for (int drain = 0; drain < drains; ++drain) {
#pragma GCC unroll 4
          for (int t = 0; t < tokens; ++t) {
            Words sum[planes];
#pragma GCC unroll 3
            for (int p = 0; p < planes; ++p) {
              const int plane = t * planes + p;
              __m512i s = _mm512_load_si512(offsets + plane * offset_lanes<Q> + drain * 16);
#pragma GCC unroll 2
              for (int i = drain; i < (drains == 1 ? 2 : drain + 1); ++i)
                s = _mm512_dpbusd_epi32(s, w[i], _mm512_load_si512(values + plane * chunk_columns + i * 64));
              sum[p] = (Words)s;
            }
            const __m512 scale = lane_scales<blocks_per_drain>(products + (r * tokens + t) * stride + drain * blocks_per_drain);
            total[r][t] = _mm512_fmadd_ps(joined<planes>(sum, 1), scale, total[r][t]);
          }
        }
      }
      bytes += vectors * 64, next += vectors * 64, values += count * chunk_columns, offsets += count * offset_lanes<Q>, products += blocks;
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
      for (int t = 0; t < tokens; ++t) sums[r * tokens + t] = _mm512_reduce_add_ps(total[r][t]);
  }
};

/// 64 rows of a chunk, unpacked into cache, times all tokens: bound by arithmetic.
template <int planes>
struct VnniTile {
  static constexpr std::int64_t bytes = chunk_columns * tile_rows;  // (32, 64, 4) unsigned weights: four columns in the order of the activations
  static constexpr int tokens = 6 / planes;  // at once: 6 * 4 sums, 4 vectors of weights and one of activations fit 32 registers

  template <Quant Q>
  [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]] static void unpack(std::byte* tile, View<const std::uint8_t, 2> data,
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

  /// sums (tokens, 64) += tile times tokens token .. token + tokens - 1; scales (blocks of the chunk, 64).
  template <Quant Q, int tokens>
  [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]] static void multiply(float* sums, const std::byte* tile, const float* scales,
                                                                                        const Int8Activations& x, std::int64_t chunk,
                                                                                        std::int64_t token) {
    constexpr int block = block_columns<Q>, blocks = chunk_columns / block, all = tokens * planes;
    constexpr int runs = Q.bits == 4 ? 2 : 1, steps = block / 4 / runs;  // a block of INT4 has its even columns in one run, its odd ones in another
    const std::int8_t* values = &x.values(chunk, token * planes, 0);
    const std::int32_t* offsets = &x.offsets(chunk, token * planes, 0);
    for (int b = 0; b < blocks; ++b, scales += tile_rows) {
      Words sum[all][4];
#pragma GCC unroll 6
      for (int t = 0; t < all; ++t)
#pragma GCC unroll 4
        for (int q = 0; q < 4; ++q) sum[t][q] = (Words)_mm512_set1_epi32(offsets[t * offset_lanes<Q> + b * offset_lanes<Q> / blocks]);
      for (int run = 0; run < runs; ++run) {
        const std::byte* weights = tile + (run * 16 + b * steps) * 256;
        const std::int8_t* four = values + (run * 16 + b * steps) * 4;
        for (int step = 0; step < steps; ++step, weights += 256, four += 4) {
          __m512i w[4];
#pragma GCC unroll 4
          for (int q = 0; q < 4; ++q) w[q] = _mm512_load_si512(weights + q * 64);
#pragma GCC unroll 6
          for (int t = 0; t < all; ++t) {
            std::int32_t word;
            __builtin_memcpy(&word, four + t * chunk_columns, 4);
            const __m512i v = _mm512_set1_epi32(word);
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
          const __m512 scale = _mm512_mul_ps(_mm512_loadu_ps(scales + q * 16), token_scale);
          _mm512_store_ps(to, _mm512_fmadd_ps(joined<planes>(&sum[t * planes][q], 4), scale, _mm512_load_ps(to)));
        }
      }
    }
  }
};

}  // namespace golem::cpu
#endif
