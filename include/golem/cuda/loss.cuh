// Softmax cross entropy over a shard of the vocabulary on the GPU, row by row, and the rows that it is computed for (spec 2.5).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/core/math.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/device.hpp"
#include "golem/cuda/embedding.cuh"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

/// A block takes a row, and reads it once: each thread keeps its largest logit so far and the sum relative to it.
template <class A, int Width>
__global__ void __launch_bounds__(512) logit_statistics_kernel(A* max_out, A* sum_out, A* picked, const A* logits, const std::int32_t* targets, std::int64_t first, std::int64_t columns) {
  ptx::begin_kernel();
  A* shared = dynamic_shared<A>();  // 32
  const std::int64_t n = blockIdx.x, vectors = columns / Width;
  const A* row = logits + n * columns;
  A max = row[0], sum = 0;
  for (std::int64_t i = threadIdx.x; i < vectors; i += blockDim.x) {
    A x[Width];
    load(x, row + i * Width);
    A top = x[0];
#pragma unroll
    for (int w = 1; w < Width; ++w) top = x[w] > top ? x[w] : top;
    if (top > max) {
      sum *= exponential(max - top);
      max = top;
    }
#pragma unroll
    for (int w = 0; w < Width; ++w) sum += exponential(x[w] - max);
  }
  const A top = block_max(max, shared);
  const A total = block_sum(sum * exponential(max - top), shared);
  if (threadIdx.x != 0) return;
  const std::int64_t target = targets[n] - first;
  max_out[n] = top, sum_out[n] = total;
  picked[n] = target >= 0 && target < columns ? row[target] : A{0};
}

template <class A>
__global__ void __launch_bounds__(256) rescale_sums_kernel(A* sum, const A* own_max, const A* max, std::int64_t count) {
  ptx::begin_kernel();
  for (std::int64_t n = first_item(); n < count; n += item_step()) sum[n] *= exponential(own_max[n] - max[n]);
}

template <class A>
__global__ void __launch_bounds__(256) token_losses_kernel(A* losses, const A* max, const A* sum, const A* picked, std::int64_t count) {
  ptx::begin_kernel();
  for (std::int64_t n = first_item(); n < count; n += item_step()) losses[n] = logarithm(sum[n]) + max[n] - picked[n];
}

/// A block takes a row of logits, or of anything that is scaled by row. d may be the logits.
template <class T, int Width>
__global__ void __launch_bounds__(512) logit_gradient_kernel(T* d, const accumulate_t<T>* logits, const std::int32_t* targets, const accumulate_t<T>* max, const accumulate_t<T>* sum,
                                                             const accumulate_t<T>* weights, std::int64_t first, std::int64_t columns) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  const std::int64_t n = blockIdx.x, vectors = columns / Width, target = targets[n] - first;
  const A top = max[n], total = sum[n], weight = weights[n], scale = weight / total;
  for (std::int64_t i = threadIdx.x; i < vectors; i += blockDim.x) {
    A x[Width];
    load(x, logits + n * columns + i * Width);
#pragma unroll
    for (int w = 0; w < Width; ++w) {
      const A e = exponential(x[w] - top);
      x[w] = i * Width + w == target ? weight * (e / total - 1) : e * scale;
    }
    store(d + n * columns + i * Width, x);
  }
}

template <class T, int Width>
__global__ void __launch_bounds__(256) scale_rows_kernel(T* y, const accumulate_t<T>* x, const accumulate_t<T>* weights, std::int64_t rows, std::int64_t vectors) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  for (std::int64_t item = first_item(); item < rows * vectors; item += item_step()) {
    const A weight = weights[item / vectors];
    A v[Width];
    load(v, x + item * Width);
#pragma unroll
    for (int w = 0; w < Width; ++w) v[w] *= weight;
    store(y + item * Width, v);
  }
}

/// y row rows[i] = x row i.
template <class T, int Width>
__global__ void __launch_bounds__(256) put_rows_kernel(T* y, const T* x, const std::int32_t* rows, std::int64_t count, std::int64_t vectors) {
  ptx::begin_kernel();
  for (std::int64_t item = first_item(); item < count * vectors; item += item_step())
    reinterpret_cast<Pack<T, Width>*>(y)[rows[item / vectors] * vectors + item % vectors] = reinterpret_cast<const Pack<T, Width>*>(x)[item];
}

/// Threads of a block for a row of `vectors`.
inline int row_threads(std::int64_t vectors) { return static_cast<int>(smaller<std::int64_t>(512, round_up(vectors, 32))); }

/// For each row of logits (n, V/tp): max, sum of exp(l - max), and the logit of its target, 0 where that is not one of
/// tokens first .. first + V/tp - 1.
template <class A>
void logit_statistics(Device& device, View<A, 1> max, View<A, 1> sum, View<A, 1> picked, View<A, 2> logits, View<const std::int32_t, 1> targets, std::int64_t first) {
  const std::int64_t columns = logits.extent(1);
  const bool all_wide = fits_wide<A>(columns, logits.data);
  launch(device, {.name = "logit_statistics", .early = true, .blocks = logits.extent(0), .threads = row_threads(all_wide ? columns / wide<A> : columns), .shared_bytes = 32 * sizeof(A)},
         all_wide ? logit_statistics_kernel<A, wide<A>> : logit_statistics_kernel<A, 1>, max.data, sum.data, picked.data, logits.data, targets.data, first, columns);
}

/// Makes sums that were taken from `own_max` ones from `max`: what ranks do before they add them up.
template <class A>
void rescale_sums(Device& device, View<A, 1> sum, View<A, 1> own_max, View<A, 1> max) {
  launch(device, {.name = "rescale_sums", .early = true, .blocks = blocks_for(device, sum.size(), 256)}, rescale_sums_kernel<A>, sum.data, own_max.data, max.data, sum.size());
}

/// losses (n), in nats: log(sum) + max - picked.
template <class A>
void token_losses(Device& device, View<A, 1> losses, View<A, 1> max, View<A, 1> sum, View<A, 1> picked) {
  launch(device, {.name = "token_losses", .early = true, .blocks = blocks_for(device, losses.size(), 256)}, token_losses_kernel<A>, losses.data, max.data, sum.data, picked.data, losses.size());
}

template <class T>
__global__ void __launch_bounds__(256) round_to_type_kernel(accumulate_t<T>* x, std::int64_t count) {
  ptx::begin_kernel();
  for (std::int64_t i = first_item(); i < count; i += item_step()) x[i] = rounded<T>(x[i]);
}

/// Rounds each logit of x (n, V) to the nearest value of T.
template <class T>
void round_to_type(Device& device, View<accumulate_t<T>, 2> x, T) {
  launch(device, {.name = "round_to_type", .early = true, .blocks = blocks_for(device, x.size(), 256)}, round_to_type_kernel<T>, x.data, x.size());
}

/// d_logits (n, V/tp) = weights * (softmax - onehot(target)); of a T that sums are held in, it may be the memory of `logits`.
template <class T>
void logit_gradient(Device& device, View<T, 2> d_logits, std::type_identity_t<View<const accumulate_t<T>, 2>> logits, View<const std::int32_t, 1> targets,
                    std::type_identity_t<View<const accumulate_t<T>, 1>> max, std::type_identity_t<View<const accumulate_t<T>, 1>> sum,
                    std::type_identity_t<View<const accumulate_t<T>, 1>> weights, std::int64_t first) {
  const std::int64_t columns = d_logits.extent(1);
  const bool all_wide = fits_wide<T>(columns, d_logits.data, logits.data);
  launch(device, {.name = "logit_gradient", .early = true, .blocks = d_logits.extent(0), .threads = row_threads(all_wide ? columns / wide<T> : columns)},
         all_wide ? logit_gradient_kernel<T, wide<T>> : logit_gradient_kernel<T, 1>, d_logits.data, logits.data, targets.data, max.data, sum.data, weights.data, first, columns);
}

/// y (n, V) = weights (n) * x, row by row; of a T that sums are held in, y may be x's memory.
template <class T>
void scale_rows(Device& device, View<T, 2> y, std::type_identity_t<View<const accumulate_t<T>, 2>> x, std::type_identity_t<View<const accumulate_t<T>, 1>> weights) {
  const bool all_wide = fits_wide<T>(y.extent(1), y.data, x.data);
  const std::int64_t vectors = all_wide ? y.extent(1) / wide<T> : y.extent(1);
  launch(device, {.name = "scale_rows", .early = true, .blocks = blocks_for(device, y.extent(0) * vectors, 256)}, all_wide ? scale_rows_kernel<T, wide<T>> : scale_rows_kernel<T, 1>, y.data, x.data, weights.data,
         y.extent(0), vectors);
}

/// y (n, C) = rows of x (N, C).
template <class T>
void gather_rows(Device& device, View<T, 2> y, std::type_identity_t<View<const T, 2>> x, View<const std::int32_t, 1> rows) {
  take_rows<T>(device, y, x, rows, 0);
}

/// y (N, C) = x (n, C) in the given rows, zero in all others.
template <class T>
void scatter_rows(Device& device, View<T, 2> y, std::type_identity_t<View<const T, 2>> x, View<const std::int32_t, 1> rows) {
  device.clear(y.data, static_cast<std::size_t>(y.size()) * sizeof(T));
  const bool all_wide = fits_wide<T>(y.extent(1), y.data, x.data);
  const std::int64_t vectors = all_wide ? y.extent(1) / wide<T> : y.extent(1);
  launch(device, {.name = "scatter_rows", .early = true, .blocks = blocks_for(device, rows.size() * vectors, 256)}, all_wide ? put_rows_kernel<T, wide<T>> : put_rows_kernel<T, 1>, y.data, x.data, rows.data,
         rows.size(), vectors);
}

}  // namespace golem::cuda
