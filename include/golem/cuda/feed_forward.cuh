// The activation of the feed-forward on the GPU: GeGLU and GeLU with the exact erf, forward and backward (spec 1.1, 1.7).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>
#include <type_traits>

#include "golem/config/model.hpp"
#include "golem/core/math.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/device.hpp"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

/// y (N, F) = u[:, :F] * gelu(u[:, F:]) for geglu; y = gelu(u) for gelu. A thread takes one vector of a row.
template <class T, int Width, Ffn Kind>
__global__ void __launch_bounds__(256) activate_kernel(T* y, const T* u, std::int64_t rows, std::int64_t ffn, Rounding rounding) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  const std::int64_t i = first_item() * Width;
  if (i >= ffn) return;
  for (std::int64_t n = blockIdx.y; n < rows; n += gridDim.y) {
    A gate[Width], linear[Width];
    if constexpr (Kind == Ffn::geglu) {
      load(linear, u + n * 2 * ffn + i);
      load(gate, u + n * 2 * ffn + ffn + i);
    } else {
      load(gate, u + n * ffn + i);
    }
#pragma unroll
    for (int w = 0; w < Width; ++w) {
      gate[w] *= normal(gate[w]).cdf;
      if constexpr (Kind == Ffn::geglu) gate[w] = (rounding == Rounding::once ? gate[w] : rounded<T>(gate[w])) * linear[w];
    }
    store(y + n * ffn + i, gate);
  }
}

/// d linear = dy gelu(gate); d gate = dy linear gelu'(gate), gelu'(x) = Phi(x) + x density(x). du may be u.
template <class T, int Width, Ffn Kind>
__global__ void __launch_bounds__(256) activate_backward_kernel(T* du, const T* dy, const T* u, std::int64_t rows, std::int64_t ffn) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  const std::int64_t i = first_item() * Width;
  if (i >= ffn) return;
  for (std::int64_t n = blockIdx.y; n < rows; n += gridDim.y) {
    const std::int64_t row = n * (Kind == Ffn::geglu ? 2 : 1) * ffn + i, gate_at = Kind == Ffn::geglu ? row + ffn : row;
    A gate[Width], linear[Width], d[Width];
    load(gate, u + gate_at);
    load(d, dy + n * ffn + i);
    if constexpr (Kind == Ffn::geglu) load(linear, u + row);
#pragma unroll
    for (int w = 0; w < Width; ++w) {
      const A x = gate[w];
      const auto [cdf, density] = normal(x);
      const A slope = cdf + x * density;
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

/// Blocks for each thread to take one of the vectors of a row: strips of it across, rows down.
inline Launch by_strips(std::string_view name, std::int64_t rows, std::int64_t vectors) {
  const std::int64_t threads = smaller<std::int64_t>(256, round_up(vectors, 32));
  return {.name = name, .early = true, .blocks = threads ? ceil_div(vectors, threads) : 0, .threads = static_cast<int>(threads), .blocks_y = smaller<std::int64_t>(rows, 65535)};
}

/// y (N, F) = u[:, :F] * gelu(u[:, F:]) for geglu, of u (N, 2F); y = gelu(u) for gelu.
template <class T>
void activate(Device& device, View<T, 2> y, std::type_identity_t<View<const T, 2>> u, Ffn kind, Rounding rounding = Rounding::once) {
  const std::int64_t rows = y.extent(0), ffn = y.extent(1);
  const bool all_wide = fits_wide<T>(ffn, y.data, u.data);
  const Launch how = by_strips("activate", rows, all_wide ? ffn / wide<T> : ffn);
  const auto start = [&](auto* kernel) { launch(device, how, kernel, y.data, u.data, rows, ffn, rounding); };
  if (kind == Ffn::geglu) start(all_wide ? activate_kernel<T, wide<T>, Ffn::geglu> : activate_kernel<T, 1, Ffn::geglu>);
  else start(all_wide ? activate_kernel<T, wide<T>, Ffn::gelu> : activate_kernel<T, 1, Ffn::gelu>);
}

/// du from dy (N, F) and u. du may be u's memory.
template <class T>
void activate_backward(Device& device, View<T, 2> du, std::type_identity_t<View<const T, 2>> dy, std::type_identity_t<View<const T, 2>> u, Ffn kind) {
  const std::int64_t rows = dy.extent(0), ffn = dy.extent(1);
  const bool all_wide = fits_wide<T>(ffn, du.data, dy.data, u.data);
  const Launch how = by_strips("activate_backward", rows, all_wide ? ffn / wide<T> : ffn);
  const auto start = [&](auto* kernel) { launch(device, how, kernel, du.data, dy.data, u.data, rows, ffn); };
  if (kind == Ffn::geglu) start(all_wide ? activate_backward_kernel<T, wide<T>, Ffn::geglu> : activate_backward_kernel<T, 1, Ffn::geglu>);
  else start(all_wide ? activate_backward_kernel<T, wide<T>, Ffn::gelu> : activate_backward_kernel<T, 1, Ffn::gelu>);
}

}  // namespace golem::cuda
