// The inner loops of golem's own GEMM: one text in the compiler's vector types, compiled for each instruction set.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "golem/core/math.hpp"
#include "golem/core/number.hpp"
#include "golem/cpu/intrinsics.hpp"
#include "golem/cpu/isa.hpp"

namespace golem::cpu {

/// A vector of `bytes` bytes. Only ever a local variable: passing one by value would depend on the flags of the program.
template <class T, int bytes>
struct VectorOf {
  typedef T type __attribute__((vector_size(bytes)));
};
template <class T, int bytes>
using Vector = typename VectorOf<T, bytes>::type;

#if defined(__x86_64__)
template <class Body>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,f16c")]] void run_avx512(const Body& body) {
  body.template at<64>();
}
template <class Body>
[[gnu::target("avx2,fma,f16c")]] void run_avx2(const Body& body) {
  body.template at<32>();
}
#endif

/// body.at<bytes>() with the widest vectors of the instruction set. `at`, and all that it calls, is always_inline and so
/// becomes code of that set: the bodies below are written once.
template <class Body>
void run_on(Isa isa, const Body& body) {
#if defined(__x86_64__)
  if (isa >= Isa::avx512) return run_avx512(body);
  if (isa == Isa::avx2) return run_avx2(body);
#endif
  static_cast<void>(isa);
  body.template at<16>();
}

/// to = the sizeof(V) / sizeof(A) elements at `from`, exactly, as A.
template <class A, int bytes, class T>
[[gnu::always_inline]] inline void load_as(Vector<A, bytes>& to, const T* from) {
  if constexpr (std::is_same_v<T, A>) {
    std::memcpy(&to, from, bytes);
  } else {
    Vector<std::uint16_t, bytes / 2> half;
    std::memcpy(&half, from, bytes / 2);
    Vector<std::uint32_t, bytes> bits = __builtin_convertvector(half, Vector<std::uint32_t, bytes>);
    if constexpr (std::is_same_v<T, bfloat16>) {
      bits <<= 16;
    } else {  // float16: shift exponent and mantissa in place, mend the exponent's bias by a product that is exact (also for subnormals)
      const Vector<float, bytes> magnitude = reinterpret_cast<Vector<float, bytes>>((bits & 0x7fffu) << 13) * 0x1p112f;
      const Vector<std::uint32_t, bytes> special = reinterpret_cast<Vector<std::uint32_t, bytes>>((bits & 0x7c00u) == 0x7c00u) & 0x7f800000u;
      bits = reinterpret_cast<Vector<std::uint32_t, bytes>>(magnitude) | special | ((bits & 0x8000u) << 16);
    }
    to = reinterpret_cast<Vector<A, bytes>>(bits);
  }
}

/// to = the lanes of `from` as Y, bfloat16 or float16, rounded to nearest even as the scalar conversions round.
template <class Y, int bytes>
[[gnu::always_inline]] inline void store_as(Y* to, const Vector<float, bytes>& from) {
  using Bits = Vector<std::uint32_t, bytes>;
  const Bits bits = reinterpret_cast<Bits>(from), magnitude = bits & 0x7fffffffu;
  const Bits nan = reinterpret_cast<Bits>(magnitude > 0x7f800000u);
  Bits out;
  if constexpr (std::is_same_v<Y, bfloat16>) {
    out = (~nan & (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16) | (nan & ((bits >> 16) | 0x40u));
  } else {
    const Bits small = reinterpret_cast<Bits>(magnitude < 0x38800000u), large = reinterpret_cast<Bits>(magnitude >= 0x477ff000u);
    const Bits normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    const Bits subnormal = reinterpret_cast<Bits>(reinterpret_cast<Vector<float, bytes>>(magnitude) + 0.5f) - 0x3f000000u;  // ulp of 0.5f: 2^-24
    out = (small & subnormal) | (large & (0x7c00u | (nan & 0x200u))) | (~(small | large) & normal) | ((bits >> 16) & 0x8000u);
  }
  const auto half = __builtin_convertvector(out, Vector<std::uint16_t, bytes / 2>);
  std::memcpy(static_cast<void*>(to), &half, bytes / 2);
}

/// to[i] = from[i], rounded once.
template <class Y>
struct Narrow {
  Y* to;
  const float* from;
  std::int64_t count;

  template <int bytes>
  [[gnu::always_inline]] void at() const {
    constexpr std::int64_t lanes = bytes / 4;
    std::int64_t i = 0;
    for (; i + lanes <= count; i += lanes) {
      Vector<float, bytes> v;
      std::memcpy(&v, from + i, bytes);
      store_as<Y, bytes>(to + i, v);
    }
    for (; i < count; ++i) to[i] = Y(from[i]);
  }
};

/// Operands are packed in strips: 16 lines (rows of a, columns of b), up to `strip_depth` deep; element (line, k) is at k * 16 + line.
inline constexpr int strip_lines = 16;
inline constexpr int strip_depth = 192;  // three strips of float are 36 KiB: they and a strip of a stay in a first-level cache of 48 KiB
inline constexpr int strip_size = strip_lines * strip_depth;

/// Rows and strips of c that one block holds in registers: 8 x 48 in the 32 registers of AVX-512, 4 x 16 in the 16 of AVX2.
template <class A, int bytes>
inline constexpr int block_rows = bytes == 64                     ? 8
                                  : bytes == 32 && sizeof(A) == 4 ? 4
                                                                  : 2;
template <class A, int bytes>
inline constexpr int block_strips = bytes == 64 && sizeof(A) == 4 ? 3 : 1;

/// c = start + a b on `rows` x `strips * 16` elements: the sums stay in registers for the whole depth.
template <class A, int bytes, int strips>
[[gnu::always_inline]] inline void multiply_block(const A* a, const A* b, std::int64_t depth, const A* start, std::int64_t start_stride, A* c,
                                                  std::int64_t c_stride) {
  using V = Vector<A, bytes>;
  constexpr int rows = block_rows<A, bytes>, lanes = bytes / static_cast<int>(sizeof(A)), per_strip = strip_lines / lanes, width = strips * per_strip;
  V sum[rows][width];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < width; ++v) {
      sum[r][v] = V{};
      if (v * bytes % 64 == 0) __builtin_prefetch(start + r * start_stride + v * lanes);
    }
  for (std::int64_t k = 0; k < depth; ++k, a += strip_lines, b += strip_lines) {
    V right[width];
#pragma GCC unroll 16
    for (int v = 0; v < width; ++v) std::memcpy(&right[v], b + v / per_strip * strip_size + v % per_strip * lanes, bytes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
      for (int v = 0; v < width; ++v) sum[r][v] += a[r] * right[v];
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < width; ++v) {
      V from;
      std::memcpy(&from, start + r * start_stride + v * lanes, bytes);
      from += sum[r][v];
      std::memcpy(c + r * c_stride + v * lanes, &from, bytes);
    }
}

/// c = start + a b for packed strips of a (rows) and of b (columns). `start` may be c itself, or one row for all (stride 0).
template <class A>
struct MultiplyStrips {
  const A *a, *b;
  std::int64_t rows, columns, depth;
  const A* start;
  std::int64_t start_stride;
  A* c;
  std::int64_t c_stride;

  template <int bytes>
  [[gnu::always_inline]] void at() const {
    constexpr int most = block_strips<A, bytes>;
    for (std::int64_t j = 0; j < columns;) {
      const std::int64_t left = ceil_div(columns - j, strip_lines);
      if (most > 2 && left > 2)
        j = band<bytes, most>(j);
      else if (most > 1 && left > 1)
        j = band < bytes, most == 1 ? 1 : 2 > (j);
      else
        j = band<bytes, 1>(j);
    }
  }

 private:
  /// `strips` strips of columns from j on, all rows; returns the column after them.
  template <int bytes, int strips>
  [[gnu::always_inline]] std::int64_t band(std::int64_t j) const {
    constexpr int height = block_rows<A, bytes>, width = strips * strip_lines;
    for (std::int64_t i = 0; i < rows; i += height) {
      const A* left = a + i / strip_lines * strip_size + i % strip_lines;
      const A* right = b + j / strip_lines * strip_size;
      const A* from = start + i * start_stride + j;
      A* to = c + i * c_stride + j;
      const std::int64_t valid_rows = smaller<std::int64_t>(rows - i, height), valid = smaller<std::int64_t>(columns - j, width);
      if (valid_rows == height && valid == width) {
        multiply_block<A, bytes, strips>(left, right, depth, from, start_stride, to, c_stride);
        continue;
      }
      alignas(64) A edge[height * width] = {};  // an edge of c: through a whole block
      for (std::int64_t r = 0; r < valid_rows; ++r)
        std::memcpy(edge + r * width, from + r * start_stride, static_cast<std::size_t>(valid) * sizeof(A));
      multiply_block<A, bytes, strips>(left, right, depth, edge, width, edge, width);
      for (std::int64_t r = 0; r < valid_rows; ++r) std::memcpy(to + r * c_stride, edge + r * width, static_cast<std::size_t>(valid) * sizeof(A));
    }
    return j + width;
  }
};

}  // namespace golem::cpu
