// What pointwise kernels share: 16-byte loads and stores of any element type, sums over a block, and elementary functions.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "golem/core/math.hpp"
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

/// 16 bytes as they are stored: wide<T> elements of T, in registers that hold two of them where they have 16 bits.
struct [[gnu::may_alias]] alignas(16) Vector {
  std::uint32_t word[4];
};

/// The elements of a vector of T, as what they accumulate in.
template <class T, int Width, class A>
__device__ void widen_all(A (&x)[Width], const Vector& vector) {
  static_assert(Width == wide<T>);
  if constexpr (sizeof(T) == 2) {
#pragma unroll
    for (int i = 0; i < 4; ++i) ptx::unpack<T>(x[2 * i], x[2 * i + 1], vector.word[i]);
  } else {
    T element[Width];
    std::memcpy(element, &vector, sizeof element);
#pragma unroll
    for (int w = 0; w < Width; ++w) x[w] = element[w];
  }
}

/// The vector of accumulators rounded to T; 16-bit types two at a time.
template <class T, int Width, class A>
__device__ Vector narrow_all(const A (&x)[Width]) {
  static_assert(Width == wide<T>);
  Vector vector;
  if constexpr (sizeof(T) == 2) {
#pragma unroll
    for (int i = 0; i < 4; ++i) vector.word[i] = ptx::pack<T>(static_cast<float>(x[2 * i]), static_cast<float>(x[2 * i + 1]));
  } else {
    T element[Width];
#pragma unroll
    for (int w = 0; w < Width; ++w) element[w] = static_cast<T>(x[w]);
    std::memcpy(&vector, element, sizeof element);
  }
  return vector;
}

/// Lets the registers of what a vector was widened to go, until it is widened again.
__device__ inline void forget(Vector& vector) {
#pragma unroll
  for (int i = 0; i < 4; ++i) ptx::forget(vector.word[i]);
}

/// Width elements, as what they accumulate in.
template <int Width, class T, class A>
__device__ void load(A (&x)[Width], const T* from) {
  if constexpr (sizeof(T) == 2 && Width == wide<T> && std::is_same_v<A, float>) {
    widen_all<T>(x, *reinterpret_cast<const Vector*>(from));
  } else {
    const Pack<T, Width> pack = *reinterpret_cast<const Pack<T, Width>*>(from);
#pragma unroll
    for (int w = 0; w < Width; ++w) x[w] = static_cast<A>(ptx::widen(pack.element[w]));
  }
}

template <int Width, class T, class A>
__device__ void store(T* to, const A (&x)[Width]) {
  if constexpr (sizeof(T) == 2 && Width == wide<T> && std::is_same_v<A, float>) {
    *reinterpret_cast<Vector*>(to) = narrow_all<T>(x);
  } else {
    Pack<T, Width> pack;
#pragma unroll
    for (int w = 0; w < Width; ++w) pack.element[w] = ptx::narrow<T>(x[w]);
    *reinterpret_cast<Pack<T, Width>*>(to) = pack;
  }
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

/// The sum of the `x` of all threads before this one; integers, since it goes another way than block_sum. As there, whole warps and 32 elements.
template <class A>
__device__ A block_sum_before(A x, A* shared) {
  const int lane = ptx::lane(), warp = static_cast<int>(threadIdx.x / 32);
  A sum = x;
#pragma unroll
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const A other = ptx::shuffle(sum, larger(lane - lanes, 0));
    if (lane >= lanes) sum += other;
  }
  if (lane == 31) shared[warp] = sum;
  __syncthreads();
  for (int i = 0; i < warp; ++i) sum += shared[i];
  __syncthreads();
  return sum - x;
}

/// Whether this block is the last of its kernel, of one dimension, to come here; what the others wrote before is there then. `arrived`, of all blocks, is 0 before and
/// behind; `shared` has one element, which nobody else uses any more.
__device__ inline bool is_last_block(std::uint32_t* arrived, std::uint32_t* shared) {
  ptx::order_writes();
  __syncthreads();
  if (threadIdx.x == 0) {
    *shared = ptx::atomic_add(arrived, std::uint32_t{1});
    if (*shared == gridDim.x - 1) *arrived = 0;
  }
  __syncthreads();
  ptx::order_writes();
  return *shared == gridDim.x - 1;
}

__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }
__device__ inline float logarithm(float x) { return logf(x); }
__device__ inline double logarithm(double x) { return log(x); }
__device__ inline float square_root(float x) { return sqrtf(x); }
__device__ inline double square_root(double x) { return sqrt(x); }

/// cdf = P(X <= x) of the standard normal distribution, and its density: the exact erf of the GeLU (spec 1.7).
template <class A>
struct Normal {
  A cdf, density;
};
__device__ inline Normal<double> normal(double x) { return {0.5 * erfc(-x * 0.70710678118654752), 0.39894228040143268 * exp(-0.5 * x * x)}; }

/// P(X > t) exp(t^2 / 2) is a polynomial of z = 1 / (1 + 0.3 t), to 6e-8 of itself for t up to 9 (interpolated at Chebyshev's
/// points), so that the tail on the left keeps its digits as erfc would, at half the instructions.
__device__ inline Normal<float> normal(float x) {
  const float gauss = ptx::exp2_fast(x * x * -0.72134752f), z = ptx::reciprocal_fast(fabsf(x) * 0.3f + 1.0f);
  float tail = z * 0.0380356822f - 0.167287552f;
  tail = tail * z + 0.224263636f;
  tail = tail * z - 0.0707856543f;
  tail = tail * z + 0.138021306f;
  tail = tail * z + 0.0968890390f;
  tail = tail * z + 0.121270621f;
  tail = tail * z + 0.119592952f;
  tail *= z * gauss;  // P(X > |x|)
  return {x < 0 ? tail : 1 - tail, 0.39894228f * gauss};
}

}  // namespace golem::cuda
