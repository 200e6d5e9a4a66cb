// A matrix product as a struct, and packing for golem's own GEMM: lines of an operand, of any element type and either layout, become strips.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "golem/cpu/gemm_kernels.hpp"

namespace golem::cpu {

/// Element (line, k) of an operand is data[line * line_stride + k * depth_stride]; one of the strides is 1.
template <class T>
struct Operand {
  const T* data = nullptr;
  std::int64_t line_stride = 0;   // from a row of a to the next, from a column of b to the next
  std::int64_t depth_stride = 0;  // along the dim that is summed over

  const T* at(std::int64_t line, std::int64_t k) const { return data + line * line_stride + k * depth_stride; }
};

/// c = a b + bias, or c += a b; c (rows, columns) is row-major, a has `rows` lines and b `columns` lines, both `depth` deep.
template <class T, class Y>
struct Product {
  std::int64_t rows = 0, columns = 0, depth = 0;
  Operand<T> a, b;
  Y* c = nullptr;
  std::int64_t c_stride = 0;
  const T* bias = nullptr;  // (columns), or none
  bool accumulate = false;  // only where Y is accumulate_t<T>, and without bias
};

#if defined(__x86_64__)
/// The lanes that one step of the transposition takes: from both vectors, exchanging the off-diagonal squares of side `half`.
struct Exchange {
  alignas(64) std::array<std::int32_t, 16> low, high;
};
consteval Exchange exchange(int half) {
  Exchange lanes{};
  for (int i = 0; i < 16; ++i) {
    lanes.low[static_cast<unsigned>(i)] = i & half ? 16 + i - half : i;
    lanes.high[static_cast<unsigned>(i)] = i & half ? 16 + i : i + half;
  }
  return lanes;
}
inline constexpr std::array exchanges{exchange(1), exchange(2), exchange(4), exchange(8)};

/// to[k * 16 + line] = from[line * stride + k] for 16 lines and 16 k.
[[gnu::target("avx512f")]] inline void transpose_avx512(float* to, const float* from, std::int64_t stride) {
  __m512 row[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) row[i] = _mm512_loadu_ps(from + i * stride);
#pragma GCC unroll 4
  for (int step = 0; step < 4; ++step) {
    const __m512i low = _mm512_load_si512(exchanges[static_cast<unsigned>(step)].low.data());
    const __m512i high = _mm512_load_si512(exchanges[static_cast<unsigned>(step)].high.data());
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      if (i >> step & 1) continue;
      const __m512 a = row[i], b = row[i + (1 << step)];
      row[i] = _mm512_permutex2var_ps(a, low, b);
      row[i + (1 << step)] = _mm512_permutex2var_ps(a, high, b);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm512_storeu_ps(to + i * 16, row[i]);
}
#endif

/// Strips of lines [0, lines) of `from`, `depth` deep, one after the other; the last is filled up with zeros.
template <class A, class T>
struct PackStrips {
  A* to;
  Operand<T> from;
  std::int64_t lines, depth;

  template <int bytes>
  [[gnu::always_inline]] void at() const {
    const std::int64_t whole = lines / strip_lines;
    if (from.line_stride == 1) {  // k outside: a row of all strips is one piece of memory
      for (std::int64_t k = 0; k < depth; ++k)
        for (std::int64_t s = 0; s < whole; ++s) load_line<bytes>(to + s * strip_size + k * strip_lines, from.at(s * strip_lines, k));
    } else {
      for (std::int64_t s = 0; s < whole; ++s) {
        std::int64_t k = 0;
        for (; k + strip_lines <= depth; k += strip_lines) transpose<bytes>(to + s * strip_size + k * strip_lines, from.at(s * strip_lines, k));
        copy(s, k);
      }
    }
    if (whole * strip_lines < lines) copy(whole, 0);
  }

 private:
  /// Strip s from k on, element by element.
  void copy(std::int64_t s, std::int64_t k) const {
    for (; k < depth; ++k)
      for (std::int64_t i = 0; i < strip_lines; ++i) {
        const std::int64_t line = s * strip_lines + i;
        to[s * strip_size + k * strip_lines + i] = line < lines ? static_cast<A>(*from.at(line, k)) : A{0};
      }
  }

  /// 16 consecutive elements.
  template <int bytes>
  [[gnu::always_inline]] static void load_line(A* line, const T* source) {
    constexpr int lanes = bytes / static_cast<int>(sizeof(A));
#pragma GCC unroll 8
    for (int i = 0; i < strip_lines; i += lanes) {
      Vector<A, bytes> v;
      load_as<A, bytes>(v, source + i);
      std::memcpy(line + i, &v, bytes);
    }
  }

  /// 16 lines of 16 elements.
  template <int bytes>
  [[gnu::always_inline]] void transpose(A* square, const T* source) const {
    constexpr bool vectors = bytes == 64 && std::is_same_v<A, float>;
    if constexpr (vectors && std::is_same_v<T, float>) {
      transpose_avx512(square, source, from.line_stride);
    } else {
      alignas(64) A line[strip_lines * strip_lines];
      for (int i = 0; i < strip_lines; ++i) load_line<bytes>(line + i * strip_lines, source + i * from.line_stride);
      if constexpr (vectors) {
        transpose_avx512(square, line, strip_lines);
      } else {
        for (int k = 0; k < strip_lines; ++k)
          for (int i = 0; i < strip_lines; ++i) square[k * strip_lines + i] = line[i * strip_lines + k];
      }
    }
  }
};

}  // namespace golem::cpu
