// project for quantised weights on the GPU: y = x wT + b, with w as INT8 or INT4, where it lies for few tokens, and as elements for many.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "golem/config/plan_inference.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/error.hpp"
#include "golem/cuda/quantized_activations.cuh"
#include "golem/cuda/quantized_gemm_elements.cuh"
#include "golem/cuda/quantized_gemm_rows.cuh"
#include "golem/cuda/quantized_gemm_tiles.cuh"

namespace golem::cuda {

/// The tokens of x rounded to int8, in the device's workspace.
template <Quant Q, class T>
Int8Tokens round_tokens(Device& device, View<const T, 2> x) {
  constexpr int block = Q.block();
  const std::int64_t count = x.extent(0), columns = x.extent(1), padded = round_up(columns, 128), blocks = count * (padded / block);
  const auto lay_out = [&](Arena& arena) {
    const auto values = arena.take<std::int8_t>(count, padded);
    return Int8Tokens{values.data, arena.take<float>(blocks).data, padded, block};
  };
  Arena measure;
  lay_out(measure);
  Arena arena(device.workspace<std::byte>(static_cast<std::int64_t>(measure.used())), measure.used());
  const Int8Tokens tokens = lay_out(arena);
  launch(device, {.name = "round_tokens", .early = true, .blocks = ceil_div(blocks * 32, 256)}, round_tokens_kernel<T, Q.bits, block>, const_cast<std::int8_t*>(tokens.values), const_cast<float*>(tokens.scales),
         x.data, blocks, padded, columns);
  return tokens;
}

/// y (N, O) = x (N, I) wT + bias (O) or none, w (O, I) quantised, in GLM-130B's own storage. Each weight is integer * scale in
/// float, rounded to T where tokens are many (fewest_dequantized_tokens; the original rounds to fp16), and sums are held in accumulate_t<T>.
/// Q.activations == int8: x is rounded to 8 bits below the largest magnitude of its block (Quant::block). Throws Error where shapes differ.
template <class T, Quant Q, class Byte>
void project(Device& device, View<T, 2> y, std::type_identity_t<View<const T, 2>> x, const QuantizedView<Q, Byte>& weights, std::type_identity_t<View<const T, 1>> bias) {
  require(weights.columns > 0 && x.extent(0) == y.extent(0) && x.extent(1) == weights.columns && y.extent(1) == weights.rows && (!bias || bias.extent(0) == weights.rows),
          "a product y = x wT + b was asked for with y ", shape_of(y), ", x ", shape_of(x), ", a quantised w (", weights.rows, ", ", weights.columns, ") and b ", shape_of(bias),
          ": they must be (N, O), (N, I), (O, I) and (O)");
  const std::int64_t count = y.extent(0);
  if (count == 0 || weights.rows == 0) return;
  const QuantizedRows<Q.bits> w(weights);
  const bool wide_rows = fits_wide<std::uint8_t>(w.row_bytes, w.bytes);
  if constexpr (Q.activations == Activations::int8)
    multiply_quantized_rows(device, y.data, round_tokens<Q>(device, x), w, bias.data, count, wide_rows);
  else if (count >= fewest_dequantized_tokens)
    multiply_quantized_elements<T>(device, y, x, weights, bias, dequantized_rows(w.rows, w.columns, sizeof(T)));
  else if (!multiply_quantized_tiles<T, Q.bits, Q.block()>(device, y.data, x.data, w, bias.data, count))
    multiply_quantized_rows(device, y.data, ExactTokens<T>{x.data, w.columns}, w, bias.data, count, wide_rows && fits_wide<T>(w.columns, x.data));
}

}  // namespace golem::cuda
