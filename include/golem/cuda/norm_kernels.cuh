// The kernels of LayerNorm forward and of the residual: a block takes a row, and holds it in registers where it fits.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/core/number.hpp"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

/// What a row is made of, and where it goes. See normalize and normalize_sum.
template <class T>
struct NormForward {
  T *y, *sum;
  const T *a, *b, *gamma, *beta;
  accumulate_t<T>*mean, *rstd;
  accumulate_t<T> alpha, eps;
  std::int64_t rows, columns;
  Rounding rounding = Rounding::once;
};

/// alpha a + b, with alpha a rounded to T where rounding is stepwise.
template <class T>
__device__ accumulate_t<T> scaled_sum(accumulate_t<T> a, accumulate_t<T> alpha, accumulate_t<T> b, Rounding rounding) {
  return rounding == Rounding::once ? a * alpha + b : rounded<T>(a * alpha) + b;
}

/// The sum over the block of each x[i], in a fixed tree, for every thread. `shared` has 32 elements of each, and is read until
/// the block's next barrier.
template <int Count, class A>
__device__ void block_sums(A (&x)[Count], A* shared) {
  const int lane = ptx::lane(), warp = static_cast<int>(threadIdx.x / 32), warps = static_cast<int>(blockDim.x / 32);
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    x[i] = warp_sum(x[i]);
    if (lane == 0) shared[32 * i + warp] = x[i];
  }
  if (warps == 1) return;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < Count; ++i) x[i] = warp_sum(lane < warps ? shared[32 * i + lane] : A{0});
}

/// Whether a row is given, or is a sum that is stored as well.
enum class Source { row, sum };

/// Block n holds row n in registers as it is stored, Steps vectors a thread: all its loads are under way before the first is used.
template <class T, int Steps, Source From>
__global__ void __launch_bounds__(512, smaller((Steps < 8 ? 2 : 1) + (From == Source::row), ptx::resident_threads / 512)) normalize_held_kernel(NormForward<T> f) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  constexpr int width = wide<T>;
  A* shared = dynamic_shared<A>();  // (2, 32)
  const int thread = static_cast<int>(threadIdx.x), step = static_cast<int>(blockDim.x), vectors = static_cast<int>(f.columns / width);
  const std::int64_t row = blockIdx.x * f.columns;
  const auto vector = [&](auto* tensor, int s) -> auto& {
    if constexpr (std::is_const_v<std::remove_pointer_t<decltype(tensor)>>) return reinterpret_cast<const Vector*>(tensor)[thread + s * step];
    else return reinterpret_cast<Vector*>(tensor)[thread + s * step];
  };
  const auto holds = [&](int s) { return thread + s * step < vectors; };

  Vector held[Steps];
#pragma unroll
  for (int s = 0; s < Steps; ++s)
    if (holds(s)) held[s] = vector(f.a + row, s);
  if constexpr (From == Source::sum) {
    Vector branch[Steps];
#pragma unroll
    for (int s = 0; s < Steps; ++s)
      if (holds(s)) branch[s] = vector(f.b + row, s);
#pragma unroll
    for (int s = 0; s < Steps; ++s) {
      if (!holds(s)) continue;
      A x[width], more[width];
      widen_all<T>(x, held[s]);
      widen_all<T>(more, branch[s]);
#pragma unroll
      for (int w = 0; w < width; ++w) x[w] = scaled_sum<T>(x[w], f.alpha, more[w], f.rounding);
      held[s] = narrow_all<T>(x);
      forget(held[s]);
      vector(f.sum + row, s) = held[s];
    }
  }

  A total[1]{}, squares[1]{};
#pragma unroll
  for (int s = 0; s < Steps; ++s) {
    if (!holds(s)) continue;
    A x[width];
    widen_all<T>(x, held[s]);
#pragma unroll
    for (int w = 0; w < width; ++w) total[0] += x[w];
  }
  block_sums(total, shared);
  const A mean = total[0] / static_cast<A>(f.columns);
#pragma unroll
  for (int s = 0; s < Steps; ++s) {
    if (!holds(s)) continue;
    A x[width];
    forget(held[s]);
    widen_all<T>(x, held[s]);
#pragma unroll
    for (int w = 0; w < width; ++w) squares[0] += (x[w] - mean) * (x[w] - mean);
  }
  block_sums(squares, shared + 32);
  const A rstd = 1 / square_root(squares[0] / static_cast<A>(f.columns) + f.eps);

#pragma unroll
  for (int s = 0; s < Steps; ++s) {
    if (!holds(s)) continue;
    A x[width], gamma[width], beta[width];
    const Vector gammas = vector(f.gamma, s), betas = vector(f.beta, s);
    forget(held[s]);
    widen_all<T>(x, held[s]);
    widen_all<T>(gamma, gammas);
    widen_all<T>(beta, betas);
#pragma unroll
    for (int w = 0; w < width; ++w) x[w] = (x[w] - mean) * rstd * gamma[w] + beta[w];
    vector(f.y + row, s) = narrow_all<T>(x);
  }
  if (f.mean && thread == 0) f.mean[blockIdx.x] = mean, f.rstd[blockIdx.x] = rstd;
}

/// Rows of any length, read again from memory for each pass.
template <class T, int Width>
__global__ void __launch_bounds__(512) normalize_kernel(NormForward<T> f) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  A* shared = dynamic_shared<A>();  // (2, 32)
  const std::int64_t vectors = f.columns / Width, row = blockIdx.x * f.columns;
  const T* source = f.b ? f.sum + row : f.a + row;
  A total[1]{}, squares[1]{}, x[Width];
  for (std::int64_t i = threadIdx.x; i < vectors; i += blockDim.x) {
    load(x, f.a + row + i * Width);
    if (f.b) {
      A branch[Width];
      load(branch, f.b + row + i * Width);
#pragma unroll
      for (int w = 0; w < Width; ++w) x[w] = rounded<T>(scaled_sum<T>(x[w], f.alpha, branch[w], f.rounding));  // as stored
      store(f.sum + row + i * Width, x);
    }
#pragma unroll
    for (int w = 0; w < Width; ++w) total[0] += x[w];
  }
  block_sums(total, shared);
  const A mean = total[0] / static_cast<A>(f.columns);
  for (std::int64_t i = threadIdx.x; i < vectors; i += blockDim.x) {
    load(x, source + i * Width);
#pragma unroll
    for (int w = 0; w < Width; ++w) squares[0] += (x[w] - mean) * (x[w] - mean);
  }
  block_sums(squares, shared + 32);
  const A rstd = 1 / square_root(squares[0] / static_cast<A>(f.columns) + f.eps);
  for (std::int64_t i = threadIdx.x; i < vectors; i += blockDim.x) {
    A gamma[Width], beta[Width];
    load(x, source + i * Width);
    load(gamma, f.gamma + i * Width);
    load(beta, f.beta + i * Width);
#pragma unroll
    for (int w = 0; w < Width; ++w) x[w] = (x[w] - mean) * rstd * gamma[w] + beta[w];
    store(f.y + row + i * Width, x);
  }
  if (f.mean && threadIdx.x == 0) f.mean[blockIdx.x] = mean, f.rstd[blockIdx.x] = rstd;
}

/// y = alpha a + b; b may be null.
template <class T, int Width>
__global__ void __launch_bounds__(256) add_scaled_kernel(T* y, const T* a, const T* b, accumulate_t<T> alpha, std::int64_t vectors, Rounding rounding) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  for (std::int64_t i = first_item(); i < vectors; i += item_step()) {
    A x[Width], other[Width]{};
    load(x, a + i * Width);
    if (b) load(other, b + i * Width);
#pragma unroll
    for (int w = 0; w < Width; ++w) x[w] = scaled_sum<T>(x[w], alpha, other[w], rounding);
    store(y + i * Width, x);
  }
}

/// y += bias, row by row.
template <class T, int Width>
__global__ void __launch_bounds__(256) add_bias_kernel(T* y, const T* bias, std::int64_t vectors, std::int64_t row_vectors) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  for (std::int64_t i = first_item(); i < vectors; i += item_step()) {
    A x[Width], other[Width];
    load(x, y + i * Width);
    load(other, bias + i % row_vectors * Width);
#pragma unroll
    for (int w = 0; w < Width; ++w) x[w] += other[w];
    store(y + i * Width, x);
  }
}

}  // namespace golem::cuda
