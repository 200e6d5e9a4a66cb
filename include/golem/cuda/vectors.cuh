// What pointwise kernels share: 16-byte loads and stores of any element type, sums over a block, and elementary functions.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "golem/core/number.hpp"
#include "golem/cuda/launch.hpp"
#include "golem/cuda/ptx.cuh"

namespace golem::cuda {

/// Elements of T in 16 bytes.
template <class T>
inline constexpr int wide = static_cast<int>(16 / sizeof(T));

/// Whether rows of `columns` elements can be read 16 bytes at a time from each of the pointers; null is no row.
template <class T, class... Pointers>
bool fits_wide(std::int64_t columns, const Pointers*... pointers) {
  return columns % wide<T> == 0 && ((reinterpret_cast<std::uintptr_t>(pointers) % (wide<T> * sizeof(Pointers) < 16 ? wide<T> * sizeof(Pointers) : 16) == 0) && ...);
}

template <class T, int Width>
struct alignas(sizeof(T) * Width < 16 ? sizeof(T) * Width : 16) Pack {
  T element[Width];
};

/// Width elements, as what they accumulate in.
template <int Width, class T, class A>
__device__ void load(A (&x)[Width], const T* from) {
  const Pack<T, Width> pack = *reinterpret_cast<const Pack<T, Width>*>(from);
#pragma unroll
  for (int w = 0; w < Width; ++w) x[w] = static_cast<A>(ptx::widen(pack.element[w]));
}

template <int Width, class T, class A>
__device__ void store(T* to, const A (&x)[Width]) {
  Pack<T, Width> pack;
#pragma unroll
  for (int w = 0; w < Width; ++w) pack.element[w] = ptx::narrow<T>(x[w]);
  *reinterpret_cast<Pack<T, Width>*>(to) = pack;
}

/// x as T would store it.
template <class T, class A>
__device__ A rounded(A x) {
  return static_cast<A>(ptx::widen(ptx::narrow<T>(x)));
}

__device__ inline std::int64_t first_item() { return std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }
__device__ inline std::int64_t item_step() { return std::int64_t{gridDim.x} * blockDim.x; }

template <class A>
__device__ A warp_sum(A x) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) x += ptx::shuffle_xor(x, lanes);
  return x;
}

template <class A>
__device__ A warp_max(A x) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    const A other = ptx::shuffle_xor(x, lanes);
    x = other > x ? other : x;
  }
  return x;
}

/// The sum of `x` over the block, in a fixed tree, for every thread. Blocks are whole warps; `shared` has 32 elements.
template <class A>
__device__ A block_sum(A x, A* shared) {
  const int lane = ptx::lane(), warp = static_cast<int>(threadIdx.x / 32), warps = static_cast<int>(blockDim.x / 32);
  x = warp_sum(x);
  if (warps == 1) return x;
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  x = warp_sum(lane < warps ? shared[lane] : A{0});
  __syncthreads();
  return x;
}

template <class A>
__device__ A block_max(A x, A* shared) {
  const int lane = ptx::lane(), warp = static_cast<int>(threadIdx.x / 32), warps = static_cast<int>(blockDim.x / 32);
  x = warp_max(x);
  if (warps == 1) return x;
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  x = warp_max(shared[lane < warps ? lane : 0]);
  __syncthreads();
  return x;
}

__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }
__device__ inline float logarithm(float x) { return logf(x); }
__device__ inline double logarithm(double x) { return log(x); }
__device__ inline float square_root(float x) { return sqrtf(x); }
__device__ inline double square_root(double x) { return sqrt(x); }

/// Phi(x), the standard normal distribution; the exact erf of the GeLU (spec 1.7).
__device__ inline float normal_distribution(float x) { return 0.5f * erfcf(-x * 0.70710678118654752f); }
__device__ inline double normal_distribution(double x) { return 0.5 * erfc(-x * 0.70710678118654752); }
/// Its density.
template <class A>
__device__ A normal_density(A x) {
  return A(0.39894228040143268) * exponential(A(-0.5) * x * x);
}

}  // namespace golem::cuda
