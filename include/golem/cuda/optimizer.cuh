// AdamW over a flat segment on the GPU, the sum of squares that clipping needs, and conversion between types (spec 4.2).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/core/math.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/device.hpp"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

/// Everything that AdamW reads of one step, in A.
template <class A>
struct AdamwNumbers {
  A rate, beta1, beta2, eps, decay, inverse1, inverse2, gradient_scale;
};

template <class A, class T, class G, int Width>
__global__ void __launch_bounds__(256) adamw_kernel(A* master, A* moment1, A* moment2, T* compute, const G* gradient, AdamwNumbers<A> s, std::int64_t vectors) {
  ptx::begin_kernel();
  for (std::int64_t item = first_item(); item < vectors; item += item_step()) {
    const std::int64_t i = item * Width;
    A g[Width], m[Width], v[Width], x[Width];
    load(g, gradient + i);
    load(m, moment1 + i);
    load(v, moment2 + i);
    load(x, master + i);
#pragma unroll
    for (int w = 0; w < Width; ++w) {
      g[w] *= s.gradient_scale;
      m[w] = m[w] * s.beta1 + g[w] * (1 - s.beta1);
      v[w] = v[w] * s.beta2 + g[w] * g[w] * (1 - s.beta2);
      x[w] -= (m[w] * s.inverse1 / (square_root(v[w] * s.inverse2) + s.eps) + x[w] * s.decay) * s.rate;
    }
    store(moment1 + i, m);
    store(moment2 + i, v);
    store(master + i, x);
    if (compute) store(compute + i, x);
  }
}

/// partial[block] = the squares of the block's elements. Threads add in double what they met of one vector.
template <class T, int Width>
__global__ void __launch_bounds__(256) squares_kernel(double* partial, const T* values, std::int64_t vectors) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  double total = 0;
  for (std::int64_t item = first_item(); item < vectors; item += item_step()) {
    A x[Width], squares = 0;
    load(x, values + item * Width);
#pragma unroll
    for (int w = 0; w < Width; ++w) squares += x[w] * x[w];
    total += static_cast<double>(squares);
  }
  total = block_sum(total, dynamic_shared<double>());
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

/// *sum = the sum of `count` numbers, by one block.
template <class A>
__global__ void __launch_bounds__(256) add_up_kernel(A* sum, const A* values, std::int64_t count) {
  ptx::begin_kernel();
  A total = 0;
  for (std::int64_t i = threadIdx.x; i < count; i += blockDim.x) total += values[i];
  total = block_sum(total, dynamic_shared<A>());
  if (threadIdx.x == 0) *sum = total;
}

template <class To, class From, int Width>
__global__ void __launch_bounds__(256) add_kernel(To* to, const From* more, std::int64_t vectors) {
  ptx::begin_kernel();
  for (std::int64_t item = first_item(); item < vectors; item += item_step()) {
    accumulate_t<To> x[Width], y[Width];
    load(x, to + item * Width);
    load(y, more + item * Width);
#pragma unroll
    for (int w = 0; w < Width; ++w) x[w] += y[w];
    store(to + item * Width, x);
  }
}

template <class To, class From, int Width>
__global__ void __launch_bounds__(256) convert_kernel(To* to, const From* from, std::int64_t vectors) {
  ptx::begin_kernel();
  for (std::int64_t item = first_item(); item < vectors; item += item_step()) {
    accumulate_t<From> x[Width];
    load(x, from + item * Width);
    store(to + item * Width, x);
  }
}

/// One AdamW step of tensors.master and its moments, all of one size; tensors.compute, unless empty, becomes the master
/// rounded to T. See AdamwStep.
template <class A, class T, class G>
void adamw(Device& device, const AdamwTensors<A, T, G>& tensors, const AdamwStep& step) {
  const AdamwNumbers<A> numbers{static_cast<A>(step.learning_rate), static_cast<A>(step.beta1),           static_cast<A>(step.beta2),           static_cast<A>(step.eps),
                                static_cast<A>(step.decay),         static_cast<A>(1 / step.correction1), static_cast<A>(1 / step.correction2), static_cast<A>(step.gradient_scale)};
  const std::int64_t size = tensors.master.size();
  const bool all_wide = fits_wide<A>(size, tensors.master.data, tensors.moment1.data, tensors.moment2.data, tensors.compute.data, tensors.gradient.data);
  const std::int64_t vectors = all_wide ? size / wide<A> : size;
  launch(device, {.name = "adamw", .early = true, .blocks = blocks_for(device, vectors, 256)}, all_wide ? adamw_kernel<A, T, G, wide<A>> : adamw_kernel<A, T, G, 1>, tensors.master.data, tensors.moment1.data,
         tensors.moment2.data, tensors.compute.data, tensors.gradient.data, numbers, vectors);
}

inline constexpr std::int64_t most_square_blocks = 1024;  // the tree does not depend on the GPU

/// sum (1) = the sum of squares of `values`, in a fixed tree. Infinity and NaN pass through, so that an overflow is seen.
template <class T>
void add_up_squares(Device& device, View<double, 1> sum, std::type_identity_t<View<const T, 1>> values) {
  const bool all_wide = fits_wide<T>(values.size(), values.data);
  const std::int64_t vectors = all_wide ? values.size() / wide<T> : values.size(), blocks = smaller(ceil_div(vectors, 256), most_square_blocks);
  if (blocks == 0) return device.clear(sum.data, sizeof(double));
  double* partial = device.workspace<double>(most_square_blocks);
  const std::size_t shared = 32 * sizeof(double);
  launch(device, {.name = "squares", .early = true, .blocks = blocks, .shared_bytes = shared}, all_wide ? squares_kernel<T, wide<T>> : squares_kernel<T, 1>, partial, values.data, vectors);
  launch(device, {.name = "add_up", .early = true, .shared_bytes = shared}, add_up_kernel<double>, sum.data, partial, blocks);
}

/// The same, for the host, which waits.
template <class T>
double sum_of_squares(Device& device, View<const T, 1> values) {
  double* sum = device.workspace<double>(most_square_blocks + 1) + most_square_blocks;  // behind what add_up_squares takes
  add_up_squares<T>(device, View<double, 1>(sum, 1), values);
  double total = 0;
  device.copy_out(&total, sum, sizeof total);
  return total;
}

/// to += more, rounded once.
template <class To, class From>
void add(Device& device, View<To, 1> to, View<From, 1> more) {
  using Source = std::remove_const_t<From>;
  constexpr int width = wide<Source> < wide<To> ? wide<Source> : wide<To>;
  const bool all_wide = to.size() % width == 0 && fits_wide<To>(0, to.data) && fits_wide<Source>(0, more.data);
  const std::int64_t vectors = all_wide ? to.size() / width : to.size();
  launch(device, {.name = "add", .early = true, .blocks = blocks_for(device, vectors, 256)}, all_wide ? add_kernel<To, Source, width> : add_kernel<To, Source, 1>, to.data, more.data, vectors);
}

/// to = from, rounded once.
template <class To, class From>
void convert(Device& device, View<To, 1> to, View<From, 1> from) {
  using Source = std::remove_const_t<From>;
  constexpr int width = wide<Source> < wide<To> ? wide<Source> : wide<To>;
  const bool all_wide = to.size() % width == 0 && fits_wide<To>(0, to.data) && fits_wide<Source>(0, from.data);
  const std::int64_t vectors = all_wide ? to.size() / width : to.size();
  launch(device, {.name = "convert", .early = true, .blocks = blocks_for(device, vectors, 256)}, all_wide ? convert_kernel<To, Source, width> : convert_kernel<To, Source, 1>, to.data, from.data, vectors);
}

}  // namespace golem::cuda
