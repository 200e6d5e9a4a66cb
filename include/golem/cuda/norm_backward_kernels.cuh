// The kernels of LayerNorm backward: a block takes rows in turn, and adds up its part of d gamma and d beta.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/core/number.hpp"
#include "golem/cuda/norm_kernels.cuh"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

template <class T>
struct NormBackward {
  T* dx;
  accumulate_t<T>* partial;  // (blocks, 2, C)
  const T *dy, *inside, *outside, *x, *gamma;
  const accumulate_t<T>*mean, *rstd;
  accumulate_t<T> alpha;
  std::int64_t rows, columns;
  bool in_shared = false;  // whether the sums of a block that holds none fit its shared memory
};

/// Each thread holds the sums of its columns, Steps vectors of them, over all rows of the block, and copies its part of the row after
/// next to shared memory once it has left a row: what it alone writes there it alone reads. One barrier a row.
template <class T, int Steps>
__global__ void __launch_bounds__(512, Steps == 1 ? 2 : 1) normalize_backward_held_kernel(NormBackward<T> f) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  constexpr int width = wide<T>;
  A* shared = dynamic_shared<A>();  // (2, 2, 32): by turn
  const int step = static_cast<int>(blockDim.x), vectors = static_cast<int>(f.columns / width), streams = 2 + (f.inside != nullptr) + (f.outside != nullptr);
  Vector* ring = reinterpret_cast<Vector*>(shared + 128) + threadIdx.x;  // (2, streams, vectors): by turn; dy, x, inside, outside
  const auto holds = [&](int s) { return static_cast<int>(threadIdx.x) + s * step < vectors; };
  const auto vector = [&](const T* row, int s) { return reinterpret_cast<const Vector*>(row) + threadIdx.x + s * step; };

  const auto fetch = [&](std::int64_t n, int turn) {
    Vector* slot = ring + turn * streams * vectors;
    const std::int64_t row = n * f.columns;
#pragma unroll
    for (int s = 0; s < Steps; ++s) {
      if (n >= f.rows || !holds(s)) continue;
      ptx::copy_async(slot + s * step, vector(f.dy + row, s));
      ptx::copy_async(slot + vectors + s * step, vector(f.x + row, s));
      if (f.inside) ptx::copy_async(slot + 2 * vectors + s * step, vector(f.inside + row, s));
      if (f.outside) ptx::copy_async(slot + (streams - 1) * vectors + s * step, vector(f.outside + row, s));
    }
    ptx::commit_copies();
  };
  fetch(blockIdx.x, 0);
  fetch(std::int64_t{blockIdx.x} + gridDim.x, 1);

  A slope[Steps][width]{}, shift[Steps][width]{};
  Vector gammas[Steps];
#pragma unroll
  for (int s = 0; s < Steps; ++s)
    if (holds(s)) gammas[s] = *vector(f.gamma, s);
  A next_mean = f.mean[blockIdx.x], next_rstd = f.rstd[blockIdx.x];
  int turn = 0;
  for (std::int64_t n = blockIdx.x; n < f.rows; n += gridDim.x, turn ^= 1) {
    const A mean = next_mean, rstd = next_rstd;
    if (n + gridDim.x < f.rows) next_mean = f.mean[n + gridDim.x], next_rstd = f.rstd[n + gridDim.x];
    const Vector* slot = ring + turn * streams * vectors;
    const auto look = [&](A(&centred)[width], A(&u)[width], int s) {
      widen_all<T>(u, slot[s * step]);
      widen_all<T>(centred, slot[vectors + s * step]);
#pragma unroll
      for (int w = 0; w < width; ++w) centred[w] -= mean;
      if (!f.inside) return;
      A inside[width];
      widen_all<T>(inside, slot[2 * vectors + s * step]);
#pragma unroll
      for (int w = 0; w < width; ++w) u[w] += f.alpha * inside[w];
    };

    ptx::wait_for_copies<1>();
    A sums[2]{};  // of u gamma, and of u gamma h
#pragma unroll
    for (int s = 0; s < Steps; ++s) {
      if (!holds(s)) continue;
      A centred[width], u[width], gamma[width];
      look(centred, u, s);
      forget(gammas[s]);
      widen_all<T>(gamma, gammas[s]);
#pragma unroll
      for (int w = 0; w < width; ++w) {
        const A h = centred[w] * rstd;
        slope[s][w] += u[w] * h, shift[s][w] += u[w];
        u[w] *= gamma[w];
        sums[0] += u[w], sums[1] += u[w] * h;
      }
    }
    block_sums(sums, shared + 64 * turn);  // who writes there again has met those who read at the other turn's barrier
    const A share = rstd / static_cast<A>(f.columns), base = -sums[0] * share, turned = -sums[1] * share * rstd;
#pragma unroll
    for (int s = 0; s < Steps; ++s) {
      if (!holds(s)) continue;
      A centred[width], u[width], gamma[width];
      look(centred, u, s);
      forget(gammas[s]);
      widen_all<T>(gamma, gammas[s]);
#pragma unroll
      for (int w = 0; w < width; ++w) u[w] = u[w] * gamma[w] * rstd + (centred[w] * turned + base);
      if (f.outside) {
        A passed[width];
        widen_all<T>(passed, slot[(streams - 1) * vectors + s * step]);
#pragma unroll
        for (int w = 0; w < width; ++w) u[w] += passed[w];
      }
      reinterpret_cast<Vector*>(f.dx + n * f.columns)[threadIdx.x + s * step] = narrow_all<T>(u);
    }
    fetch(n + 2 * std::int64_t{gridDim.x}, turn);
  }
  ptx::wait_for_copies<0>();
  A* partial = f.partial + 2 * blockIdx.x * f.columns;
#pragma unroll
  for (int s = 0; s < Steps; ++s) {
    if (!holds(s)) continue;
    store(partial + (threadIdx.x + s * step) * width, slope[s]);
    store(partial + f.columns + (threadIdx.x + s * step) * width, shift[s]);
  }
}

/// Rows of any length, read again from memory for the second pass. Sums stay in shared memory where they fit, else in `partial`.
/// A thread meets only its own columns there, so that no barrier is needed.
template <class T, int Width>
__global__ void __launch_bounds__(512) normalize_backward_kernel(NormBackward<T> f) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  A* shared = dynamic_shared<A>();  // (2, 32), then (2, C) where f.in_shared
  const std::int64_t vectors = f.columns / Width;
  A* partial = f.partial + 2 * blockIdx.x * f.columns;
  A* slope = f.in_shared ? shared + 64 : partial;
  A* shift = slope + f.columns;
  // Neighbouring threads on neighbouring banks: element w of vector i lies at w * vectors + i.
  const auto place = [&](std::int64_t i, int w) { return f.in_shared ? w * vectors + i : i * Width + w; };
  for (std::int64_t i = threadIdx.x; i < vectors; i += blockDim.x)
    for (int w = 0; w < Width; ++w) slope[place(i, w)] = shift[place(i, w)] = 0;

  for (std::int64_t n = blockIdx.x; n < f.rows; n += gridDim.x) {
    const std::int64_t row = n * f.columns;
    const A mean = f.mean[n], rstd = f.rstd[n];
    A h[Width], u[Width], gamma[Width], residual[Width];
    const auto look = [&](std::int64_t i) {
      load(u, f.dy + row + i * Width);
      load(h, f.x + row + i * Width);
      load(gamma, f.gamma + i * Width);
      if (f.inside) {
        load(residual, f.inside + row + i * Width);
#pragma unroll
        for (int w = 0; w < Width; ++w) u[w] += f.alpha * residual[w];
      }
#pragma unroll
      for (int w = 0; w < Width; ++w) h[w] = (h[w] - mean) * rstd;
    };
    A sums[2]{};  // of u gamma, and of u gamma h
    for (std::int64_t i = threadIdx.x; i < vectors; i += blockDim.x) {
      look(i);
#pragma unroll
      for (int w = 0; w < Width; ++w) {
        slope[place(i, w)] += u[w] * h[w], shift[place(i, w)] += u[w];
        u[w] *= gamma[w];
        sums[0] += u[w], sums[1] += u[w] * h[w];
      }
    }
    block_sums(sums, shared);
    const A mean_up = sums[0] / static_cast<A>(f.columns), mean_dot = sums[1] / static_cast<A>(f.columns);
    for (std::int64_t i = threadIdx.x; i < vectors; i += blockDim.x) {
      look(i);
#pragma unroll
      for (int w = 0; w < Width; ++w) u[w] = (u[w] * gamma[w] - mean_up - h[w] * mean_dot) * rstd;
      if (f.outside) {
        load(residual, f.outside + row + i * Width);
#pragma unroll
        for (int w = 0; w < Width; ++w) u[w] += residual[w];
      }
      store(f.dx + row + i * Width, u);
    }
    __syncthreads();  // sums have been read
  }
  if (!f.in_shared) return;
  for (std::int64_t i = threadIdx.x; i < vectors; i += blockDim.x)
    for (int w = 0; w < Width; ++w) partial[i * Width + w] = slope[place(i, w)], partial[f.columns + i * Width + w] = shift[place(i, w)];
}

}  // namespace golem::cuda
