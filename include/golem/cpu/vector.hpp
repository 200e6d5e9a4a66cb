// Vectors of floats or doubles in the compiler's own vector types: one text that becomes AVX-512, AVX2 or plain code.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "golem/core/number.hpp"
#include "golem/cpu/isa.hpp"

namespace golem::cpu {

/// `Count` elements of type E.
template <class E, int Count>
struct VectorOf {
  typedef E type __attribute__((vector_size(Count * sizeof(E))));
};

/// The vector of `Bytes` bytes that holds accumulators of type A.
template <class A, int Bytes>
using Vector = typename VectorOf<A, Bytes / static_cast<int>(sizeof(A))>::type;

template <class V>
using Lane = std::remove_cvref_t<decltype(std::declval<V&>()[0])>;
template <class V>
inline constexpr int lanes = sizeof(V) / sizeof(Lane<V>);

template <class V>
using Words = typename VectorOf<std::uint32_t, lanes<V>>::type;
template <class V>
using Halves = typename VectorOf<std::uint16_t, lanes<V>>::type;

/// The bits of one vector as another of the same size.
template <class To, class From>
[[gnu::always_inline]] inline void copy_bits(To& to, const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  std::memcpy(static_cast<void*>(&to), &from, sizeof to);
}

// Vectors are passed by reference: their by-value calling convention differs between instruction sets.

/// v = p[0 .. lanes), widened.
template <class V>
[[gnu::always_inline]] inline void load(V& v, const Lane<V>* p) {
  std::memcpy(&v, p, sizeof v);
}
template <class V>
[[gnu::always_inline]] inline void load(V& v, const bfloat16* p) {
  Halves<V> bits;
  std::memcpy(&bits, p, sizeof bits);
  copy_bits(v, Words<V>(__builtin_convertvector(bits, Words<V>) << 16));
}
template <class V>
[[gnu::always_inline]] inline void load(V& v, const float16* p) {
  using W = Words<V>;
  Halves<V> bits;
  std::memcpy(&bits, p, sizeof bits);
  const W wide = __builtin_convertvector(bits, W), sign = (wide & 0x8000u) << 16, magnitude = (wide & 0x7fffu) << 13;
  V scaled;  // multiplying by 2^112 rebases the exponent, and makes subnormals exact; infinity and NaN keep theirs
  copy_bits(scaled, magnitude);
  scaled *= 0x1p112f;
  W value;
  copy_bits(value, scaled);
  const W special = reinterpret_cast<W>(magnitude >= 0x0f800000u);
  copy_bits(v, W(((special & (magnitude | 0x7f800000u)) | (~special & value)) | sign));
}

/// p[0 .. lanes) = v, rounded to nearest even.
template <class V>
[[gnu::always_inline]] inline void store(Lane<V>* p, const V& v) {
  std::memcpy(p, &v, sizeof v);
}
template <class V>
[[gnu::always_inline]] inline void store(bfloat16* p, const V& v) {
  using W = Words<V>;
  W bits;
  copy_bits(bits, v);
  const W nan = reinterpret_cast<W>((bits & 0x7fffffffu) > 0x7f800000u);
  const W rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, quiet = (bits >> 16) | 0x40u;
  const Halves<V> half = __builtin_convertvector((nan & quiet) | (~nan & rounded), Halves<V>);
  std::memcpy(static_cast<void*>(p), &half, sizeof half);
}
template <class V>
[[gnu::always_inline]] inline void store(float16* p, const V& v) {
  using W = Words<V>;
  W bits;
  copy_bits(bits, v);
  const W sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  const W nan = reinterpret_cast<W>(magnitude > 0x7f800000u), overflow = reinterpret_cast<W>(magnitude >= 0x477ff000u);
  const W small = reinterpret_cast<W>(magnitude < 0x38800000u);
  const W rebased = magnitude - 0x38000000u, normal = (rebased + 0xfffu + ((rebased >> 13) & 1u)) >> 13;
  V shifted;  // a subnormal is what is left of the mantissa after adding 0.5: the adder rounds to nearest even
  copy_bits(shifted, magnitude);
  shifted += 0.5f;
  W subnormal;
  copy_bits(subnormal, shifted);
  W result = (small & (subnormal - 0x3f000000u)) | (~small & normal);
  result = (overflow & 0x7c00u) | (~overflow & result);
  result = (nan & 0x7e00u) | (~nan & result);
  const Halves<V> half = __builtin_convertvector(result | sign, Halves<V>);
  std::memcpy(static_cast<void*>(p), &half, sizeof half);
}

/// The first `count` lanes; the others of v become 0.
template <class V, class T>
[[gnu::always_inline]] inline void load_part(V& v, const T* p, std::int64_t count) {
  T padded[lanes<V>] = {};
  for (std::int64_t i = 0; i < count; ++i) padded[i] = p[i];
  load(v, padded);
}
template <class V, class T>
[[gnu::always_inline]] inline void store_part(T* p, const V& v, std::int64_t count) {
  T padded[lanes<V>];
  store(padded, v);
  for (std::int64_t i = 0; i < count; ++i) p[i] = padded[i];
}

/// Whole vectors take the first branch, the tail of a row the second.
template <class V, class T>
[[gnu::always_inline]] inline void load_up_to(V& v, const T* p, std::int64_t count) {
  if (count >= lanes<V>) load(v, p);
  else load_part(v, p, count);
}
template <class V, class T>
[[gnu::always_inline]] inline void store_up_to(T* p, const V& v, std::int64_t count) {
  if (count >= lanes<V>) store(p, v);
  else store_part(p, v, count);
}

/// Sum of all lanes, in a fixed tree.
template <class V>
[[gnu::always_inline]] inline Lane<V> sum_lanes(const V& v) {
  Lane<V> part[lanes<V>];
  std::memcpy(part, &v, sizeof v);
  for (int half = lanes<V> / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) part[i] += part[i + half];
  return part[0];
}
template <class V>
[[gnu::always_inline]] inline Lane<V> max_lanes(const V& v) {
  Lane<V> largest = v[0];
  for (int i = 1; i < lanes<V>; ++i) largest = v[i] > largest ? v[i] : largest;
  return largest;
}

// A kernel is a struct with `template <int Bytes> static void run(arguments...)`, always_inline and written with vectors of
// that many bytes. Inlined into these three functions it is compiled for each instruction set; run_kernel picks one.
#if defined(__x86_64__)
template <class Kernel, class... Arguments>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512")]] void run_on_avx512(Arguments... arguments) {
  Kernel::template run<64>(arguments...);
}
template <class Kernel, class... Arguments>
[[gnu::target("avx2,fma,f16c")]] void run_on_avx2(Arguments... arguments) {
  Kernel::template run<32>(arguments...);
}
#endif
template <class Kernel, class... Arguments>
void run_on_plain(Arguments... arguments) {
  Kernel::template run<16>(arguments...);
}

template <class Kernel, class... Arguments>
void run_kernel(Isa isa, Arguments... arguments) {
#if defined(__x86_64__)
  if (isa >= Isa::avx512) return run_on_avx512<Kernel>(arguments...);
  if (isa >= Isa::avx2) return run_on_avx2<Kernel>(arguments...);
#endif
  run_on_plain<Kernel>(arguments...);
}

}  // namespace golem::cpu
