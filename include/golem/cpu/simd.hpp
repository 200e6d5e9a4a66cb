// Vectors of any width in one text: a kernel is written once over its width, and compiled for each instruction set.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "golem/core/number.hpp"
#include "golem/cpu/isa.hpp"

namespace golem::cpu {

template <class A, int bytes>
struct LanesOf {
  typedef A type __attribute__((vector_size(bytes)));
};

/// A vector of `bytes` bytes with the arithmetic operators of A (a GCC and clang extension). Functions take lanes by
/// reference, never by value: how they are passed differs between the instruction sets, and both compilers warn of it.
template <class A, int bytes>
using Lanes = typename LanesOf<A, bytes>::type;

template <class V>
using lane_t = std::remove_cvref_t<decltype(std::declval<V&>()[0])>;
template <class V>
inline constexpr int lane_count = static_cast<int>(sizeof(V) / sizeof(lane_t<V>));

/// The integer as wide as A, so that lanes of both line up.
template <class A>
using lane_integer_t = std::conditional_t<sizeof(A) == 8, std::int64_t, std::int32_t>;
template <class V>
using IntegerLanes = Lanes<lane_integer_t<lane_t<V>>, sizeof(V)>;

/// Kernel::run<width>(arguments...) as code of instruction set `isa`: width is 64 bytes from AVX-512 on, 32 on AVX2, else 16.
/// `run` and all that it calls must be [[gnu::always_inline]], so that they take the instruction set of these functions.
template <class Kernel, class... Arguments>
void run_plain(const Arguments&... arguments) {
  Kernel::template run<16>(arguments...);
}
#if defined(__x86_64__)
template <class Kernel, class... Arguments>
[[gnu::target("avx2,fma,f16c")]] void run_avx2(const Arguments&... arguments) {
  Kernel::template run<32>(arguments...);
}
template <class Kernel, class... Arguments>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,fma,f16c")]] void run_avx512(const Arguments&... arguments) {
  Kernel::template run<64>(arguments...);
}
#endif
template <class Kernel, class... Arguments>
void run_on(Isa isa, const Arguments&... arguments) {
#if defined(__x86_64__)
  if (isa >= Isa::avx512) return run_avx512<Kernel>(arguments...);
  if (isa >= Isa::avx2) return run_avx2<Kernel>(arguments...);
#endif
  run_plain<Kernel>(arguments...);
}

template <class V>
[[gnu::always_inline]] inline void load(V& to, const lane_t<V>* from) {
  __builtin_memcpy(&to, from, sizeof(V));
}
template <class V>
[[gnu::always_inline]] inline void store(lane_t<V>* to, const V& from) {
  __builtin_memcpy(to, &from, sizeof(V));
}

/// Sixteen bits a lane, half as wide as V.
template <class V>
using HalfLanes = Lanes<std::uint16_t, sizeof(V) / 2>;

template <class V>
[[gnu::always_inline]] inline void widen(V& to, const HalfLanes<V>& from, bfloat16) {
  to = (V)(__builtin_convertvector(from, IntegerLanes<V>) << 16);
}
template <class V>
[[gnu::always_inline]] inline void narrow(HalfLanes<V>& to, const V& from, bfloat16) {
  using I = IntegerLanes<V>;
  using Unsigned = Lanes<std::uint32_t, sizeof(V)>;
  const I bits = (I)from, nan = (bits & 0x7fffffff) > 0x7f800000;
  const I rounded = (I)((Unsigned)bits + 0x7fff + (((Unsigned)bits >> 16) & 1));  // a NaN may overflow
  to = __builtin_convertvector((nan ? (bits | 0x400000) : rounded) >> 16, HalfLanes<V>);
}

template <class V>
[[gnu::always_inline]] inline void widen(V& to, const HalfLanes<V>& from, float16) {
  using I = IntegerLanes<V>;
  using Signed = Lanes<std::int16_t, sizeof(V) / 2>;
  const I half = __builtin_convertvector((Signed)from, I);
  const I bits = (I)((V)((half << 13) & static_cast<std::int32_t>(0x8fffe000u)) * 0x1p112f);  // from exponent bias 15 to 127
  to = (V)((half & 0x7c00) == 0x7c00 ? bits | 0x7f800000 : bits);                             // infinity and NaN
}
template <class V>
[[gnu::always_inline]] inline void narrow(HalfLanes<V>& to, const V& from, float16) {
  using I = IntegerLanes<V>;
  const I bits = (I)from, magnitude = bits & 0x7fffffff, rebased = magnitude - 0x38000000;
  const I subnormal = (I)((V)magnitude + 0.5f) - 0x3f000000;  // the last place of 0.5 is 2^-24
  I half = magnitude < 0x38800000 ? subnormal : (rebased + 0xfff + ((rebased >> 13) & 1)) >> 13;
  half = magnitude >= 0x477ff000 ? 0x7c00 + ((magnitude > 0x7f800000) & 0x200) : half;  // 65520 and above; NaN
  to = __builtin_convertvector(half | (bits >> 16 & 0x8000), HalfLanes<V>);
}

template <class V, class T>
requires(sizeof(T) == 2) [[gnu::always_inline]] inline void load(V& to, const T* from) {
  HalfLanes<V> half;
  __builtin_memcpy(&half, from, sizeof half);
  widen(to, half, T{});
}
template <class V, class T>
requires(sizeof(T) == 2) [[gnu::always_inline]] inline void store(T* to, const V& from) {
  HalfLanes<V> half;
  narrow(half, from, T{});
  __builtin_memcpy(static_cast<void*>(to), &half, sizeof half);
}

/// Rounds each lane to the nearest value of T.
template <class T, class V>
[[gnu::always_inline]] inline void round_to(V& lanes) {
  if constexpr (sizeof(T) == 2) {
    HalfLanes<V> half;
    narrow(half, lanes, T{});
    widen(lanes, half, T{});
  }
}

/// Lanes of two vectors, by their numbers among the 2n. One function for each n: nvcc cannot expand a pack in this builtin.
template <class V, int i0, int i1>
[[gnu::always_inline]] inline void pick(V& out, const V& a, const V& b, std::integer_sequence<int, i0, i1>) {
  out = __builtin_shufflevector(a, b, i0, i1);
}
template <class V, int i0, int i1, int i2, int i3>
[[gnu::always_inline]] inline void pick(V& out, const V& a, const V& b, std::integer_sequence<int, i0, i1, i2, i3>) {
  out = __builtin_shufflevector(a, b, i0, i1, i2, i3);
}
template <class V, int i0, int i1, int i2, int i3, int i4, int i5, int i6, int i7>
[[gnu::always_inline]] inline void pick(V& out, const V& a, const V& b, std::integer_sequence<int, i0, i1, i2, i3, i4, i5, i6, i7>) {
  out = __builtin_shufflevector(a, b, i0, i1, i2, i3, i4, i5, i6, i7);
}
template <class V, int i0, int i1, int i2, int i3, int i4, int i5, int i6, int i7, int i8, int i9, int i10, int i11, int i12, int i13, int i14, int i15>
[[gnu::always_inline]] inline void pick(V& out, const V& a, const V& b, std::integer_sequence<int, i0, i1, i2, i3, i4, i5, i6, i7, i8, i9, i10, i11, i12, i13, i14, i15>) {
  out = __builtin_shufflevector(a, b, i0, i1, i2, i3, i4, i5, i6, i7, i8, i9, i10, i11, i12, i13, i14, i15);
}

/// Transposes the 2x2 blocks whose sides are `side` lanes, `a` and `b` being rows `side` apart.
template <int side, class V, int... lane>
[[gnu::always_inline]] inline void exchange(V& a, V& b, std::integer_sequence<int, lane...>) {
  constexpr int n = sizeof...(lane);
  V upper, lower;
  pick(upper, a, b, std::integer_sequence<int, ((lane & side) ? n + (lane ^ side) : lane)...>{});
  pick(lower, a, b, std::integer_sequence<int, ((lane & side) ? n + lane : (lane ^ side))...>{});
  a = upper, b = lower;
}

/// Transposes a square of as many vectors as each has lanes.
template <int side = 1, class V>
[[gnu::always_inline]] inline void transpose(V* square) {
  constexpr int n = lane_count<V>;
#pragma GCC unroll 16
  for (int r = 0; r < n; ++r)
    if (!(r & side)) exchange<side>(square[r], square[r + side], std::make_integer_sequence<int, n>{});
  if constexpr (side * 2 < n) transpose<side * 2>(square);
}

}  // namespace golem::cpu
