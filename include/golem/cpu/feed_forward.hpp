// The activation of the feed-forward: GeGLU and GeLU with the exact erf, forward and backward (spec 1.1, 1.7).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/config/model.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cpu/device.hpp"
#include "golem/cpu/simd_normal.hpp"
#include "golem/cpu/simd_rows.hpp"

namespace golem::cpu {

/// One row: y = u1 * gelu(u2), where u1 is null for a plain GeLU.
template <class T, Rounding rounding>
struct ActivateRow {
  template <int Bytes>
  [[gnu::always_inline]] static void run(T* y, const T* linear, const T* gate, std::int64_t count) {
    using V = Lanes<accumulate_t<T>, Bytes>;
    for (std::int64_t i = 0; i < count; i += lane_count<V>) {
      V x, cdf, density, u;
      load_up_to(x, gate + i, count - i);
      normal_distribution(cdf, density, x);
      V value = x * cdf;
      if (linear) {
        if constexpr (rounding == Rounding::stepwise) round_to<T>(value);
        load_up_to(u, linear + i, count - i);
        value *= u;
      }
      store_up_to(y + i, value, count - i);
    }
  }
};

/// One row: d linear = dy gelu(gate); d gate = dy linear gelu'(gate), gelu'(x) = cdf + x density.
template <class T>
struct ActivateBackwardRow {
  template <int Bytes>
  [[gnu::always_inline]] static void run(T* d_linear, T* d_gate, const T* dy, const T* linear, const T* gate, std::int64_t count) {
    using V = Lanes<accumulate_t<T>, Bytes>;
    for (std::int64_t i = 0; i < count; i += lane_count<V>) {
      V x, cdf, density, d, u;
      load_up_to(x, gate + i, count - i);
      load_up_to(d, dy + i, count - i);
      normal_distribution(cdf, density, x);
      if (linear) {
        load_up_to(u, linear + i, count - i);
        store_up_to(d_linear + i, V(d * x * cdf), count - i);
        d *= u;
      }
      store_up_to(d_gate + i, V(d * (cdf + x * density)), count - i);
    }
  }
};

/// y (N, F) = u[:, :F] * gelu(u[:, F:]) for geglu, of u (N, 2F); y = gelu(u) for gelu.
template <class T>
void activate(Device& device, View<T, 2> y, std::type_identity_t<View<const T, 2>> u, Ffn kind, Rounding rounding = Rounding::once) {
  const std::int64_t ffn = y.extent(1);
  device.parallel(y.extent(0), [&](std::int64_t n) {
    const T* linear = kind == Ffn::geglu ? u.row(n) : nullptr;
    const T* gate = kind == Ffn::geglu ? u.row(n) + ffn : u.row(n);
    if (rounding == Rounding::stepwise) run_on<ActivateRow<T, Rounding::stepwise>>(device.isa(), y.row(n), linear, gate, ffn);
    else run_on<ActivateRow<T, Rounding::once>>(device.isa(), y.row(n), linear, gate, ffn);
  });
}

/// du from dy (N, F) and u. du may be u's memory.
template <class T>
void activate_backward(Device& device, View<T, 2> du, std::type_identity_t<View<const T, 2>> dy, std::type_identity_t<View<const T, 2>> u, Ffn kind) {
  const std::int64_t ffn = dy.extent(1);
  device.parallel(dy.extent(0), [&](std::int64_t n) {
    T* d = du.row(n);
    const T* row = u.row(n);
    if (kind == Ffn::geglu) run_on<ActivateBackwardRow<T>>(device.isa(), d, d + ffn, dy.row(n), row, row + ffn, ffn);
    else run_on<ActivateBackwardRow<T>>(device.isa(), static_cast<T*>(nullptr), d, dy.row(n), static_cast<const T*>(nullptr), row, ffn);
  });
}

}  // namespace golem::cpu
