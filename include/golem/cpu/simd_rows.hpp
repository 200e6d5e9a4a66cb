// Rows that are no whole number of vectors, and sums and maxima over lanes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

#include "golem/cpu/simd.hpp"

namespace golem::cpu {

/// The first `count` lanes; the others of v become 0.
template <class V, class T>
[[gnu::always_inline]] inline void load_part(V& v, const T* p, std::int64_t count) {
  T padded[lane_count<V>] = {};
  for (std::int64_t i = 0; i < count; ++i) padded[i] = p[i];
  load(v, padded);
}
template <class V, class T>
[[gnu::always_inline]] inline void store_part(T* p, const V& v, std::int64_t count) {
  T padded[lane_count<V>];
  store(padded, v);
  for (std::int64_t i = 0; i < count; ++i) p[i] = padded[i];
}

/// Whole vectors take the first branch, the tail of a row the second.
template <class V, class T>
[[gnu::always_inline]] inline void load_up_to(V& v, const T* p, std::int64_t count) {
  if (count >= lane_count<V>) load(v, p);
  else load_part(v, p, count);
}
template <class V, class T>
[[gnu::always_inline]] inline void store_up_to(T* p, const V& v, std::int64_t count) {
  if (count >= lane_count<V>) store(p, v);
  else store_part(p, v, count);
}

/// Sum of all lanes, in a fixed tree.
template <class V>
[[gnu::always_inline]] inline lane_t<V> sum_lanes(const V& v) {
  lane_t<V> part[lane_count<V>];
  std::memcpy(part, &v, sizeof v);
  for (int half = lane_count<V> / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) part[i] += part[i + half];
  return part[0];
}
template <class V>
[[gnu::always_inline]] inline lane_t<V> max_lanes(const V& v) {
  lane_t<V> largest = v[0];
  for (int i = 1; i < lane_count<V>; ++i) largest = v[i] > largest ? v[i] : largest;
  return largest;
}

}  // namespace golem::cpu
