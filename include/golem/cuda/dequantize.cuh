// The elements of a quantised matrix on the GPU, each rounded once: what the original multiplies by (spec 5.1).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/config/quantized_tensor.hpp"
#include "golem/core/error.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/device.hpp"
#include "golem/cuda/launch.hpp"
#include "golem/cuda/quantized_activations.cuh"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

/// Blocks take rows in turn; a thread makes Width elements at a time, which lie in one group of columns.
template <class T, int Bits, int Width>
__global__ void __launch_bounds__(256) dequantize_kernel(T* w, QuantizedRows<Bits> from) {
  ptx::begin_kernel();
  for (std::int64_t row = blockIdx.x; row < from.rows; row += gridDim.x) {
    const std::uint8_t* bytes = from.row(row);
    for (std::int64_t column = threadIdx.x * Width; column < from.columns; column += blockDim.x * Width) {
      const float scale = from.scale(row, column);
      float x[Width];
      if constexpr (Width == 1) {
        x[0] = static_cast<float>(Bits == 8 ? static_cast<std::int8_t>(bytes[column]) : int4_at(bytes, column)) * scale;
      } else {
        const auto pack = *reinterpret_cast<const Pack<std::uint8_t, Width * Bits / 8>*>(bytes + column * Bits / 8);
#pragma unroll
        for (int e = 0; e < Width; ++e) x[e] = static_cast<float>(unpacked<Bits>(pack, e)) * scale;
      }
      store(w + row * from.columns + column, x);
    }
  }
}

/// w (O, I) = integer * scale of `from` (O, I), rounded to T. Throws Error where shapes differ.
template <class T, Quant Q, class Byte>
void dequantize(Device& device, View<T, 2> w, const QuantizedView<Q, Byte>& from) {
  require(w.extent(0) == from.rows && w.extent(1) == from.columns, "the elements of a quantised matrix (", from.rows, ", ", from.columns, ") were asked for in ", shape_of(w), ": give it the same shape");
  if (w.size() == 0) return;
  constexpr int width = wide<T> < 2 ? 2 : wide<T>;
  const QuantizedRows<Q.bits> rows(from);
  const bool all_wide = from.columns % width == 0 && fits_wide<T>(from.columns, w.data) && reinterpret_cast<std::uintptr_t>(rows.bytes) % 16 == 0;
  launch(device, {.name = "dequantize", .early = true, .blocks = smaller<std::int64_t>(rows.rows, blocks_for(device, w.size(), 256))}, all_wide ? dequantize_kernel<T, Q.bits, width> : dequantize_kernel<T, Q.bits, 1>,
         w.data, rows);
}

}  // namespace golem::cuda
