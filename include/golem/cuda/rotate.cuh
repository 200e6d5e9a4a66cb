// Rotary positions on the GPU: turns pairs (j, j + D/2) of each query and key head, in place (spec 1.4).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/core/math.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/device.hpp"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

/// Pairs (first, second) turned by the angles of cosines c and sines s.
template <class T, int Width, class A>
__device__ void turn(A (&first)[Width], A (&second)[Width], const A (&c)[Width], const A (&s)[Width], Rounding rounding) {
#pragma unroll
  for (int w = 0; w < Width; ++w) {
    const A a = first[w], b = second[w];
    if (rounding == Rounding::once) {
      first[w] = a * c[w] - b * s[w];
      second[w] = b * c[w] + a * s[w];
    } else {
      first[w] = rounded<T>(a * c[w]) - rounded<T>(b * s[w]);
      second[w] = rounded<T>(b * c[w]) + rounded<T>(a * s[w]);
    }
  }
}

/// A block takes a token; its threads take Width pairs each of the token's heads, of each `parts` all but the last, which is a value. `sign` -1 turns back.
template <class T, int Width>
__global__ void __launch_bounds__(256) rotate_kernel(T* qkv, const accumulate_t<T>* cos, const accumulate_t<T>* sin, const std::int32_t* positions, accumulate_t<T> sign, int groups, int parts, int dim,
                                                         Rounding rounding) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  const int half = dim / 2, vectors = half / Width;
  const std::int64_t n = blockIdx.x, angle = std::int64_t{positions[n]} * half;
  T* token = qkv + n * groups * parts * dim;
  for (int item = static_cast<int>(threadIdx.x); item < groups * (parts - 1) * vectors; item += static_cast<int>(blockDim.x)) {
    const int j = item % vectors * Width, head = item / vectors;  // values are not counted
    T* x = token + (head + head / (parts - 1)) * dim + j;
    A first[Width], second[Width], c[Width], s[Width];
    load(first, x);
    load(second, x + half);
    load(c, cos + angle + j);
    load(s, sin + angle + j);
#pragma unroll
    for (int w = 0; w < Width; ++w) s[w] *= sign;
    turn<T>(first, second, c, s, rounding);
    store(x, first);
    store(x + half, second);
  }
}

template <class T, class A>
void rotate_by(Device& device, View<T, 4> qkv, View<const A, 2> cos, View<const A, 2> sin, View<const std::int32_t, 1> positions, A sign, Rounding rounding) {
  const std::int64_t groups = qkv.extent(1), parts = qkv.extent(2), dim = qkv.extent(3);
  const bool all_wide = fits_wide<T>(dim / 2, qkv.data, cos.data, sin.data);
  const std::int64_t items = groups * (parts - 1) * (all_wide ? dim / 2 / wide<T> : dim / 2);
  launch(device, {.name = "rotate", .early = true, .blocks = qkv.extent(0), .threads = static_cast<int>(smaller<std::int64_t>(256, round_up(items, 32)))}, all_wide ? rotate_kernel<T, wide<T>> : rotate_kernel<T, 1>,
         qkv.data, cos.data, sin.data, positions.data, sign, static_cast<int>(groups), static_cast<int>(parts), static_cast<int>(dim), rounding);
}

/// Turns all of qkv (N, G, S + 2, D) but the values by the angles of cos, sin (context, D/2) at positions (N).
template <class T>
void rotate(Device& device, View<T, 4> qkv, std::type_identity_t<View<const accumulate_t<T>, 2>> cos, std::type_identity_t<View<const accumulate_t<T>, 2>> sin,
            View<const std::int32_t, 1> positions, Rounding rounding = Rounding::once) {
  rotate_by(device, qkv, cos, sin, positions, accumulate_t<T>{1}, rounding);
}

/// The inverse: a gradient behind the rotation becomes one before it.
template <class T>
void rotate_backward(Device& device, View<T, 4> d_qkv, std::type_identity_t<View<const accumulate_t<T>, 2>> cos, std::type_identity_t<View<const accumulate_t<T>, 2>> sin,
                     View<const std::int32_t, 1> positions) {
  rotate_by(device, d_qkv, cos, sin, positions, accumulate_t<T>{-1}, Rounding::once);
}

}  // namespace golem::cuda
