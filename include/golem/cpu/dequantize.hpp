// The elements of a quantised matrix, each rounded once: what the original multiplies by (spec 5.1).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/config/quantized_tensor.hpp"
#include "golem/core/error.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cpu/device.hpp"

namespace golem::cpu {

/// w (O, I) = integer * scale of `from` (O, I), rounded to T. Throws Error where shapes differ.
template <class T, Quant Q, class Byte>
void dequantize(Device& device, View<T, 2> w, const QuantizedView<Q, Byte>& from) {
  require(w.extent(0) == from.rows && w.extent(1) == from.columns, "the elements of a quantised matrix (", from.rows, ", ", from.columns, ") were asked for in ", shape_of(w), ": give it the same shape");
  device.parallel(from.rows, [&](std::int64_t row) {
    for (std::int64_t column = 0; column < from.columns; ++column) w(row, column) = static_cast<T>(static_cast<float>(from.integer(row, column)) * from.scale(row, column));  // exact in float
  });
}

}  // namespace golem::cpu
