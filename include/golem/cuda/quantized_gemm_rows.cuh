// Rows of a quantised matrix times a few tokens, without matrix instructions: a warp takes a row and reads it once.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/cuda/quantized_activations.cuh"

namespace golem::cuda {

/// Rows that a block takes.
inline constexpr int quantized_row_warps = 4;

/// y (N, O): each block makes four rows for `Tokens` tokens. A lane loads Bytes of its row at a time, which
/// lie in one group of columns, meets them with each token in A, and adds them with their scale.
template <class T, class X, int Bits, int Tokens, int Bytes>
__global__ void __launch_bounds__(32 * quantized_row_warps) quantized_rows_kernel(T* y, X x, QuantizedRows<Bits> w, const T* bias, std::int64_t count) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  const std::int64_t pieces = ceil_div(count, Tokens), row = blockIdx.x / pieces * quantized_row_warps + threadIdx.x / 32, first = blockIdx.x % pieces * Tokens;
  if (row >= w.rows) return;
  const std::uint8_t* bytes = w.row(row);
  A sums[Tokens]{};
#pragma unroll 2
  for (std::int64_t byte = ptx::lane() * Bytes; byte < w.row_bytes; byte += 32 * Bytes) {
    const typename X::template Weights<Bits, Bytes> weights(*reinterpret_cast<const Pack<std::uint8_t, Bytes>*>(bytes + byte));
    const std::int64_t column = byte * 8 / Bits;
    const float scale = w.scale(row, column);
#pragma unroll
    for (int t = 0; t < Tokens; ++t) {
      const std::int64_t token = smaller(first + t, count - 1);
      sums[t] += static_cast<A>(x.dot(weights, token, column)) * static_cast<A>(scale * x.scale(token, column));
    }
  }
#pragma unroll
  for (int t = 0; t < Tokens; ++t) {
    const A sum = warp_sum(sums[t]);
    if (ptx::lane() == 0 && first + t < count) y[(first + t) * w.rows + row] = ptx::narrow<T>(sum + (bias ? static_cast<A>(ptx::widen(bias[row])) : A{0}));
  }
}

template <class T, class X, int Bits, int Tokens>
void launch_quantized_rows(Device& device, T* y, const X& x, const QuantizedRows<Bits>& w, const T* bias, std::int64_t count, bool all_wide) {
  const Launch how{.name = "quantized_rows", .early = true, .blocks = ceil_div(w.rows, quantized_row_warps) * ceil_div(count, Tokens), .threads = 32 * quantized_row_warps};
  launch(device, how, all_wide ? quantized_rows_kernel<T, X, Bits, Tokens, 16> : quantized_rows_kernel<T, X, Bits, Tokens, 1>, y, x, w, bias, count);
}

/// The product by rows; `all_wide`: whether every row of w, and of x, can be read 16 bytes at a time.
template <class T, class X, int Bits>
void multiply_quantized_rows(Device& device, T* y, const X& x, const QuantizedRows<Bits>& w, const T* bias, std::int64_t count, bool all_wide) {
  if (count == 1) launch_quantized_rows<T, X, Bits, 1>(device, y, x, w, bias, count, all_wide);
  else launch_quantized_rows<T, X, Bits, 4>(device, y, x, w, bias, count, all_wide);
}

}  // namespace golem::cuda
