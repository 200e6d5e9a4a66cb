// Rotary positions: turns pairs (j, j + D/2) of each query and key head, in place (spec 1.4).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/core/tensor.hpp"
#include "golem/cpu/device.hpp"
#include "golem/cpu/simd_rows.hpp"

namespace golem::cpu {

/// One head's D elements by the angles of one position; `sign` -1 turns back.
template <class T, Rounding rounding>
struct RotateHead {
  template <int Bytes>
  [[gnu::always_inline]] static void run(T* x, const accumulate_t<T>* cos, const accumulate_t<T>* sin, accumulate_t<T> sign, std::int64_t half) {
    using V = Lanes<accumulate_t<T>, Bytes>;
    for (std::int64_t j = 0; j < half; j += lane_count<V>) {
      V first, second, c, s;
      load_up_to(first, x + j, half - j);
      load_up_to(second, x + half + j, half - j);
      load_up_to(c, cos + j, half - j);
      load_up_to(s, sin + j, half - j);
      s *= sign;
      if constexpr (rounding == Rounding::once) {
        store_up_to(x + j, V(first * c - second * s), half - j);
        store_up_to(x + half + j, V(second * c + first * s), half - j);
      } else {
        V products[]{first * c, second * s, second * c, first * s};
        for (V& product : products) round_to<T>(product);
        store_up_to(x + j, V(products[0] - products[1]), half - j);
        store_up_to(x + half + j, V(products[2] + products[3]), half - j);
      }
    }
  }
};

template <Rounding rounding, class T, class A>
void rotate_by(Device& device, View<T, 4> qkv, View<const A, 2> cos, View<const A, 2> sin, View<const std::int32_t, 1> positions, A sign) {
  const std::int64_t parts = qkv.extent(2), dim = qkv.extent(3);
  device.parallel(qkv.extent(0), [&](std::int64_t n) {
    for (std::int64_t part = 0; part < qkv.extent(1) * parts; ++part)
      if (part % parts != parts - 1) run_on<RotateHead<T, rounding>>(device.isa(), qkv.row(n) + part * dim, cos.row(positions(n)), sin.row(positions(n)), sign, dim / 2);
  });
}

/// Turns all of qkv (N, G, S + 2, D) but the values by the angles of cos, sin (context, D/2) at positions (N).
template <class T>
void rotate(Device& device, View<T, 4> qkv, std::type_identity_t<View<const accumulate_t<T>, 2>> cos, std::type_identity_t<View<const accumulate_t<T>, 2>> sin,
            View<const std::int32_t, 1> positions, Rounding rounding = Rounding::once) {
  if (rounding == Rounding::stepwise) return rotate_by<Rounding::stepwise>(device, qkv, cos, sin, positions, accumulate_t<T>{1});
  rotate_by<Rounding::once>(device, qkv, cos, sin, positions, accumulate_t<T>{1});
}

/// The inverse: a gradient behind the rotation becomes one before it.
template <class T>
void rotate_backward(Device& device, View<T, 4> d_qkv, std::type_identity_t<View<const accumulate_t<T>, 2>> cos, std::type_identity_t<View<const accumulate_t<T>, 2>> sin,
                     View<const std::int32_t, 1> positions) {
  rotate_by<Rounding::once>(device, d_qkv, cos, sin, positions, accumulate_t<T>{-1});
}

}  // namespace golem::cpu
