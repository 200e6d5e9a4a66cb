// The activation of the feed-forward on the GPU: GeGLU and GeLU with the exact erf, forward and backward (spec 1.1, 1.7).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/config/model.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/device.hpp"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

/// y (N, F) = u[:, :F] * gelu(u[:, F:]) for geglu; y = gelu(u) for gelu.
template <class T, int Width, Ffn Kind>
__global__ void __launch_bounds__(256) activate_kernel(T* y, const T* u, std::int64_t rows, std::int64_t ffn, Rounding rounding) {
  using A = accumulate_t<T>;
  const std::int64_t vectors = ffn / Width;
  for (std::int64_t item = first_item(); item < rows * vectors; item += item_step()) {
    const std::int64_t n = item / vectors, i = item % vectors * Width;
    A gate[Width], linear[Width];
    if constexpr (Kind == Ffn::geglu) {
      load(linear, u + n * 2 * ffn + i);
      load(gate, u + n * 2 * ffn + ffn + i);
    } else {
      load(gate, u + n * ffn + i);
    }
#pragma unroll
    for (int w = 0; w < Width; ++w) {
      gate[w] *= normal_distribution(gate[w]);
      if constexpr (Kind == Ffn::geglu) gate[w] = (rounding == Rounding::once ? gate[w] : rounded<T>(gate[w])) * linear[w];
    }
    store(y + n * ffn + i, gate);
  }
}

/// d linear = dy gelu(gate); d gate = dy linear gelu'(gate), gelu'(x) = Phi(x) + x density(x). du may be u.
template <class T, int Width, Ffn Kind>
__global__ void __launch_bounds__(256) activate_backward_kernel(T* du, const T* dy, const T* u, std::int64_t rows, std::int64_t ffn) {
  using A = accumulate_t<T>;
  const std::int64_t vectors = ffn / Width;
  for (std::int64_t item = first_item(); item < rows * vectors; item += item_step()) {
    const std::int64_t n = item / vectors, i = item % vectors * Width, row = n * (Kind == Ffn::geglu ? 2 : 1) * ffn + i, gate_at = Kind == Ffn::geglu ? row + ffn : row;
    A gate[Width], linear[Width], d[Width];
    load(gate, u + gate_at);
    load(d, dy + n * ffn + i);
    if constexpr (Kind == Ffn::geglu) load(linear, u + row);
#pragma unroll
    for (int w = 0; w < Width; ++w) {
      const A x = gate[w], cdf = normal_distribution(x), slope = cdf + x * normal_density(x);
      if constexpr (Kind == Ffn::geglu) {
        gate[w] = d[w] * linear[w] * slope;
        linear[w] = d[w] * x * cdf;
      } else {
        gate[w] = d[w] * slope;
      }
    }
    if constexpr (Kind == Ffn::geglu) store(du + row, linear);
    store(du + gate_at, gate);
  }
}

/// y (N, F) = u[:, :F] * gelu(u[:, F:]) for geglu, of u (N, 2F); y = gelu(u) for gelu.
template <class T>
void activate(Device& device, View<T, 2> y, std::type_identity_t<View<const T, 2>> u, Ffn kind, Rounding rounding = Rounding::once) {
  const std::int64_t rows = y.extent(0), ffn = y.extent(1);
  const bool all_wide = fits_wide<T>(ffn, y.data, u.data);
  const Launch how{.name = "activate", .blocks = blocks_for(device, rows * (all_wide ? ffn / wide<T> : ffn), 256)};
  const auto start = [&](auto* kernel) { launch(device, how, kernel, y.data, u.data, rows, ffn, rounding); };
  if (kind == Ffn::geglu) start(all_wide ? activate_kernel<T, wide<T>, Ffn::geglu> : activate_kernel<T, 1, Ffn::geglu>);
  else start(all_wide ? activate_kernel<T, wide<T>, Ffn::gelu> : activate_kernel<T, 1, Ffn::gelu>);
}

/// du from dy (N, F) and u. du may be u's memory.
template <class T>
void activate_backward(Device& device, View<T, 2> du, std::type_identity_t<View<const T, 2>> dy, std::type_identity_t<View<const T, 2>> u, Ffn kind) {
  const std::int64_t rows = dy.extent(0), ffn = dy.extent(1);
  const bool all_wide = fits_wide<T>(ffn, du.data, dy.data, u.data);
  const Launch how{.name = "activate_backward", .blocks = blocks_for(device, rows * (all_wide ? ffn / wide<T> : ffn), 256)};
  const auto start = [&](auto* kernel) { launch(device, how, kernel, du.data, dy.data, u.data, rows, ffn); };
  if (kind == Ffn::geglu) start(all_wide ? activate_backward_kernel<T, wide<T>, Ffn::geglu> : activate_backward_kernel<T, 1, Ffn::geglu>);
  else start(all_wide ? activate_backward_kernel<T, wide<T>, Ffn::gelu> : activate_backward_kernel<T, 1, Ffn::gelu>);
}

}  // namespace golem::cuda
