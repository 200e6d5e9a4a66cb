// A quantised matrix times many tokens: some of its rows at a time become elements, which cuBLASLt multiplies by.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "golem/config/hardware.hpp"
#include "golem/config/plan_inference.hpp"
#include "golem/config/quantized_tensor.hpp"
#include "golem/core/math.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/dequantize.cuh"
#include "golem/cuda/device.hpp"
#include "golem/cuda/gemm.cuh"

namespace golem::cuda {

/// y (N, O) = x (N, I) wT + bias (O) or none; elements of w are rounded to T, and there are those of at most `most` rows at once.
template <class T, Quant Q, class Byte>
void multiply_quantized_elements(Device& device, View<T, 2> y, View<const T, 2> x, const QuantizedView<Q, Byte>& w, View<const T, 1> bias, std::int64_t most) {
  const std::int64_t kept = dequantized_bytes(most, w.columns, sizeof(T));
  T* elements = reinterpret_cast<T*>(device.workspace<std::byte>(kept + workspace_bytes));
  for (std::int64_t row = 0; row < w.rows; row += most) {
    const std::int64_t rows = smaller(most, w.rows - row);
    const View<T, 2> part(elements, rows, w.columns);
    dequantize(device, part, QuantizedView<Q>(rows, w.columns, w.data.row(row), w.scales.row(row)));
    multiply_linear<T, T>(device, y.data + row, w.rows, x, part, bias ? View<const T, 1>(bias.data + row, rows) : bias, kept);
  }
}

}  // namespace golem::cuda
