// Dropout on the GPU: bit for bit what the CPU keeps, a function of (seed, stream, element).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "golem/core/math.hpp"
#include "golem/core/random.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/device.hpp"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

/// The halves below this are dropped.
inline std::uint32_t dropout_threshold(double rate) { return static_cast<std::uint32_t>(std::lround(rate * 65536)); }

/// The i-th of the eight 16-bit halves of a block of random bits.
GOLEM_HD constexpr std::uint32_t half_word(const Bits4& bits, int i) {
  const std::uint32_t word = i < 4 ? (i < 2 ? bits.word[0] : bits.word[1]) : (i < 6 ? bits.word[2] : bits.word[3]);  // no run-time index into registers
  return word >> (i % 2 * 16) & 0xffffu;
}

/// Each thread takes eight elements of the whole, which one block of random bits is for; Width of them at once.
template <class T, int Width>
__global__ void __launch_bounds__(256) drop_kernel(T* y, const T* x, std::int64_t size, std::int64_t first, Random random, std::uint32_t threshold, accumulate_t<T> scale) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  for (std::int64_t block = first / 8 + first_item(); block * 8 < first + size; block += item_step()) {
    const Bits4 bits = random.bits(static_cast<std::uint64_t>(block));
#pragma unroll
    for (int j = 0; j < 8; j += Width) {
      const std::int64_t i = block * 8 + j - first;
      if (i < 0) continue;
      if (i >= size) break;
      A v[Width];
      load(v, x + i);
#pragma unroll
      for (int w = 0; w < Width; ++w) v[w] = half_word(bits, j + w) >= threshold ? v[w] * scale : A{0};
      store(y + i, v);
    }
  }
}

/// y = x / (1 - rate) where kept, else 0. Element i of y is element e = first + i of what is dropped as a whole, and is kept
/// where the e % 8th of the eight 16-bit halves of random.bits(e / 8) is at least round(rate * 65536). y may be x. The
/// backward pass is the same call on the gradient.
template <class T>
void drop(Device& device, View<T, 2> y, std::type_identity_t<View<const T, 2>> x, double rate, Random random, std::int64_t first) {
  const std::int64_t size = y.size();
  const bool all_wide = first % 8 == 0 && fits_wide<T>(size, y.data, x.data);
  launch(device, {.name = "drop", .early = true, .blocks = blocks_for(device, ceil_div(first % 8 + size, 8), 256)}, all_wide ? drop_kernel<T, wide<T>> : drop_kernel<T, 1>, y.data, x.data, size, first, random,
         dropout_threshold(rate), static_cast<accumulate_t<T>>(1 / (1 - rate)));
}

}  // namespace golem::cuda
