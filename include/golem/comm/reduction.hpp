// Reductions over the buffers of many ranks that lie in one memory: element by element, in the order of ranks.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include "golem/comm/communicator.hpp"
#include "golem/core/number.hpp"

namespace golem {

/// Calls f with a value of the element type.
template <class F>
decltype(auto) with_element(DType type, const F& f) {
  switch (type) {
    case DType::f64:
      return f(double{});
    case DType::f32:
      return f(float{});
    case DType::f16:
      return f(float16{});
    case DType::bf16:
      return f(bfloat16{});
    case DType::i64:
      return f(std::int64_t{});
    case DType::i32:
      return f(std::int32_t{});
    case DType::i8:
      return f(std::int8_t{});
    case DType::u8:
      break;
  }
  return f(std::uint8_t{});
}

/// What elements are reduced in: float for the 16-bit types, which are rounded once at the end; else the type itself.
template <class T>
using reduce_t = std::conditional_t<std::is_same_v<T, float16> || std::is_same_v<T, bfloat16>, float, T>;

/// a + b or the larger of both. Integers wrap around; a NaN stays.
template <class A>
A reduced(A a, A b, Reduce how) {
  if (how == Reduce::max) return b > a || b != b ? b : a;
  if constexpr (std::is_integral_v<A>)
    return static_cast<A>(static_cast<std::make_unsigned_t<A>>(a) + static_cast<std::make_unsigned_t<A>>(b));
  else
    return a + b;
}

/// Writes reductions of `count` elements, beginning at `first` of each `in`, to element `first` of each `out`. An `out` may be an `in`.
template <class T>
void reduce_elements(std::span<void* const> out, std::span<const void* const> in, std::int64_t first, std::int64_t count, Reduce how) {
  using A = reduce_t<T>;
  constexpr std::int64_t block = 1024;  // a few KiB, which stay in the first-level cache between the ranks
  A sum[block];
  T rounded[block];
  for (std::int64_t begin = first; begin < first + count; begin += block) {
    const std::int64_t n = std::min(block, first + count - begin);
    for (std::size_t rank = 0; rank < in.size(); ++rank) {
      const T* from = static_cast<const T*>(in[rank]) + begin;
      if (rank == 0)
        for (std::int64_t i = 0; i < n; ++i) sum[i] = static_cast<A>(from[i]);
      else if (how == Reduce::sum)
        for (std::int64_t i = 0; i < n; ++i) sum[i] = reduced(sum[i], static_cast<A>(from[i]), Reduce::sum);
      else
        for (std::int64_t i = 0; i < n; ++i) sum[i] = reduced(sum[i], static_cast<A>(from[i]), Reduce::max);
    }
    const T* result = rounded;
    if constexpr (std::is_same_v<T, A>)
      result = sum;
    else
      for (std::int64_t i = 0; i < n; ++i) rounded[i] = T(sum[i]);
    for (void* to : out) std::memcpy(static_cast<T*>(to) + begin, result, static_cast<std::size_t>(n) * sizeof(T));
  }
}

}  // namespace golem
