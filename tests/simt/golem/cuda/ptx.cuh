// The functions of golem's cuda/ptx.cuh, on the host: lanes act together, and copies arrive late.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <stdexcept>
#include <type_traits>

#include "golem/core/number.hpp"
#include "simt/simt.hpp"

namespace golem::cuda {

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(simt::shared_memory());
}

namespace ptx {

using Where = std::source_location;

inline constexpr unsigned all_lanes = 0xffffffffu;
inline constexpr int resident_threads = 1536;

inline int lane() { return static_cast<int>(threadIdx.x & 31u); }
inline void begin_kernel() { simt::begin_kernel(); }

template <class T>
struct Shuffle {
  T given, got;
  int from;
};

template <class T>
void answer_shuffle(void* const (&requests)[32], unsigned mask) {
  for (int i = 0; i < 32; ++i) {
    auto* request = static_cast<Shuffle<T>*>(requests[i]);
    if (!(mask >> request->from & 1u)) throw std::runtime_error("a shuffle reads a lane that takes no part in it");
    request->got = static_cast<Shuffle<T>*>(requests[request->from])->given;
  }
}

template <class T>
T shuffle_xor(T value, int lanes, const Where where = Where::current()) {
  Shuffle<T> request{value, {}, (lane() ^ lanes) & 31};
  simt::act_together("shuffle_xor", all_lanes, &request, answer_shuffle<T>, where);
  return request.got;
}

template <class T>
T shuffle(T value, int from, const Where where = Where::current()) {
  Shuffle<T> request{value, {}, from & 31};
  simt::act_together("shuffle", all_lanes, &request, answer_shuffle<T>, where);
  return request.got;
}

template <class T>
T atomic_add(T* to, T value) {
  const T before = *to;
  *to += value;
  return before;
}

template <class T>
void atomic_max(T* to, T value) {
  *to = *to < value ? value : *to;
}

inline void order_writes() {}

inline void meet(int number, int threads, const Where where = Where::current()) { simt::meet(number, threads, false, where); }

template <class T>
void copy_async(T* shared, const T* global) {
  simt::require_architecture(80);
  simt::defer_copy(shared, global, 16);
}
inline void commit_copies() { simt::commit_copies(); }
template <int Pending>
void wait_for_copies() {
  simt::wait_for_copies(Pending);
}

struct MatrixLoad {
  const std::uint16_t* row;
  std::uint32_t* out;
  bool transposed;
};

inline void answer_load(void* const (&requests)[32], unsigned) {
  for (int i = 0; i < 32; ++i) {
    const auto* request = static_cast<const MatrixLoad*>(requests[i]);
    if (reinterpret_cast<std::uintptr_t>(request->row) % 16) throw std::runtime_error("load_matrices was given a row that is not aligned to 16 bytes");
    for (int m = 0; m < 4; ++m) {
      const auto element = [&](int row, int column) -> std::uint32_t { return static_cast<const MatrixLoad*>(requests[8 * m + row])->row[column]; };
      const int row = i / 4, column = 2 * (i % 4);
      request->out[m] = request->transposed ? element(column, row) | element(column + 1, row) << 16 : element(row, column) | element(row, column + 1) << 16;
    }
  }
}

template <class T>
void load_matrices(std::uint32_t (&out)[4], const T* row, const Where where = Where::current()) {
  static_assert(sizeof(T) == 2);
  MatrixLoad request{reinterpret_cast<const std::uint16_t*>(row), out, false};
  simt::act_together("load_matrices", all_lanes, &request, answer_load, where);
}

template <class T>
void load_matrices_transposed(std::uint32_t (&out)[4], const T* row, const Where where = Where::current()) {
  static_assert(sizeof(T) == 2);
  MatrixLoad request{reinterpret_cast<const std::uint16_t*>(row), out, true};
  simt::act_together("load_matrices_transposed", all_lanes, &request, answer_load, where);
}

struct Multiply {
  float* c;
  const std::uint32_t *a, *b;
};

template <class T>
void answer_multiply(void* const (&requests)[32], unsigned) {
  float a[16][16], b[16][8], c[16][8];
  const auto half = [](std::uint32_t pair, int i) { return static_cast<float>(T::from_bits(static_cast<std::uint16_t>(pair >> 16 * i))); };
  for (int l = 0; l < 32; ++l) {
    const auto* x = static_cast<const Multiply*>(requests[l]);
    const int g = l / 4, t = l % 4;
    for (int i = 0; i < 2; ++i) {
      a[g][2 * t + i] = half(x->a[0], i), a[g + 8][2 * t + i] = half(x->a[1], i);
      a[g][2 * t + 8 + i] = half(x->a[2], i), a[g + 8][2 * t + 8 + i] = half(x->a[3], i);
      b[2 * t + i][g] = half(x->b[0], i), b[2 * t + 8 + i][g] = half(x->b[1], i);
      c[g][2 * t + i] = x->c[i], c[g + 8][2 * t + i] = x->c[2 + i];
    }
  }
  for (int i = 0; i < 16; ++i)
    for (int k = 0; k < 16; ++k)
      for (int j = 0; j < 8; ++j) c[i][j] += a[i][k] * b[k][j];
  for (int l = 0; l < 32; ++l) {
    const auto* x = static_cast<const Multiply*>(requests[l]);
    for (int i = 0; i < 2; ++i) x->c[i] = c[l / 4][2 * (l % 4) + i], x->c[2 + i] = c[l / 4 + 8][2 * (l % 4) + i];
  }
}

template <class T>
void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], const Where where = Where::current()) {
  static_assert(std::is_same_v<T, float16> || std::is_same_v<T, bfloat16>);
  simt::require_architecture(80);
  Multiply request{c, a, b};
  simt::act_together("multiply_add", all_lanes, &request, answer_multiply<T>, where);
}

inline float exp2_fast(float x) { return std::exp2(x); }
inline float reciprocal_fast(float x) { return 1 / x; }
inline void forget(std::uint32_t&) {}

template <class T>
std::uint32_t pack(float low, float high) {
  return std::uint32_t{T(low).bits} | std::uint32_t{T(high).bits} << 16;
}

template <class T>
void unpack(float& low, float& high, std::uint32_t pair) {
  low = static_cast<float>(T::from_bits(static_cast<std::uint16_t>(pair)));
  high = static_cast<float>(T::from_bits(static_cast<std::uint16_t>(pair >> 16)));
}

inline std::uint32_t mask_and_turn(std::uint32_t bits, std::uint32_t mask, std::uint32_t turned) { return (bits & mask) ^ turned; }

inline std::uint32_t lower_halves(std::uint32_t a, std::uint32_t b) { return (a & 0xffffu) | b << 16; }
inline std::uint32_t upper_halves(std::uint32_t a, std::uint32_t b) { return a >> 16 | (b & 0xffff0000u); }

template <class T>
std::uint32_t multiply_add_pairs(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  const auto half = [](std::uint32_t pair, int i) { return static_cast<double>(T::from_bits(static_cast<std::uint16_t>(pair >> 16 * i))); };
  const auto sum = [&](int i) { return std::uint32_t{T(half(a, i) * half(b, i) + half(c, i)).bits}; };
  return sum(0) | sum(1) << 16;
}

inline int dot4(std::uint32_t a, std::uint32_t b, int sum) {
  for (int i = 0; i < 4; ++i) sum += static_cast<std::int8_t>(a >> 8 * i) * static_cast<std::int8_t>(b >> 8 * i);
  return sum;
}

inline float widen(float16 x) { return static_cast<float>(x); }
inline float widen(bfloat16 x) { return static_cast<float>(x); }
inline float widen(float x) { return x; }
inline double widen(double x) { return x; }

template <class T, class A>
T narrow(A x) {
  return static_cast<T>(x);
}

}  // namespace ptx
}  // namespace golem::cuda
