// The embedding table on the GPU: rows by token, and the gradient back into them, in a fixed order (spec 1.2, 4.3).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>
#include <type_traits>

#include "golem/core/math.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/device.hpp"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

/// How a kernel is started whose threads take `row_steps` vectors of a row each: blocks for the strips of the first row, then of the
/// next. Its argument `strips` is blocks over rows.
inline constexpr int row_steps = 2;
inline Launch by_rows(std::string_view name, std::int64_t rows, std::int64_t vectors) {
  const std::int64_t threads = smaller<std::int64_t>(256, round_up(ceil_div(vectors, row_steps), 32));
  return {.name = name, .blocks = vectors ? rows * ceil_div(vectors, row_steps * threads) : 0, .threads = static_cast<int>(threads)};
}
inline unsigned strips_of(const Launch& how, std::int64_t rows) { return rows ? static_cast<unsigned>(how.blocks / rows) : 0; }

/// to row i = from row rows[i] - first, or zeros where `from` has no such row. An Item is a Vector or an element.
template <class Item>
__global__ void __launch_bounds__(256) take_rows_kernel(Item* to, const Item* from, const std::int32_t* rows, std::int64_t first, std::int64_t available, std::int64_t items, unsigned strips) {
  const std::int64_t i = blockIdx.x / strips, row = rows[i] - first, v = std::int64_t{blockIdx.x % strips} * row_steps * blockDim.x + threadIdx.x;
  Item held[row_steps]{};
#pragma unroll
  for (int s = 0; s < row_steps; ++s)
    if (v + s * blockDim.x < items && row >= 0 && row < available) held[s] = from[row * items + v + s * blockDim.x];
#pragma unroll
  for (int s = 0; s < row_steps; ++s)
    if (v + s * blockDim.x < items) to[i * items + v + s * blockDim.x] = held[s];
}

/// Block (n, strip) adds, for one strip of columns, the gradients of all tokens that are the same as token n, in their order;
/// it has nothing to do where token n came before.
template <class T, int Width>
__global__ void __launch_bounds__(128) embed_backward_kernel(accumulate_t<T>* d_table, const T* dx, const std::int32_t* tokens, std::int64_t first, std::int64_t available, std::int64_t count,
                                                             std::int64_t columns, accumulate_t<T> scale) {
  using A = accumulate_t<T>;
  const std::int64_t n = blockIdx.x, thread = threadIdx.x, step = blockDim.x;
  const std::int32_t token = tokens[n];
  const std::int64_t row = token - first, column = (blockIdx.y * step + thread) * Width;
  if (row < 0 || row >= available) return;
  for (std::int64_t begin = 0; begin < n; begin += step) {
    const std::int64_t i = begin + thread;
    if (__syncthreads_or(i < n && tokens[i] == token)) return;
  }
  int* same = dynamic_shared<int>();
  A sum[Width]{};
  A* into = d_table + row * columns + column;
  if (column < columns) load(sum, into);
  for (std::int64_t begin = n; begin < count; begin += step) {
    const std::int64_t i = begin + thread;
    same[thread] = i < count && tokens[i] == token;
    if (!__syncthreads_or(same[thread])) continue;  // no one reads what is written next
    for (std::int64_t j = 0; j < step && column < columns; ++j) {
      if (!same[j]) continue;
      A term[Width];
      load(term, dx + (begin + j) * columns + column);
#pragma unroll
      for (int w = 0; w < Width; ++w) sum[w] += scale * term[w];
    }
    __syncthreads();
  }
  if (column < columns) store(into, sum);
}

/// y row i = rows[i] - first of x, or zeros.
template <class T>
void take_rows(Device& device, View<T, 2> y, View<const T, 2> x, View<const std::int32_t, 1> rows, std::int64_t first) {
  const auto start = [&](auto* to, const auto* from, std::int64_t items) {
    const Launch how = by_rows("take_rows", rows.size(), items);
    launch(device, how, take_rows_kernel<std::remove_pointer_t<decltype(to)>>, to, from, rows.data, first, x.extent(0), items, strips_of(how, rows.size()));
  };
  if (fits_wide<T>(y.extent(1), y.data, x.data)) start(reinterpret_cast<Vector*>(y.data), reinterpret_cast<const Vector*>(x.data), y.extent(1) / wide<T>);
  else start(y.data, x.data, y.extent(1));
}

/// x (N, C): row tokens[n] - first of the table (V/tp, C), or zeros where that is not one of its rows.
template <class T>
void embed(Device& device, View<T, 2> x, std::type_identity_t<View<const T, 2>> table, View<const std::int32_t, 1> tokens, std::int64_t first) {
  take_rows<T>(device, x, table, tokens, first);
}

/// d_table (V/tp, C) row tokens[n] - first += scale dx[n], in the order of n.
template <class T>
void embed_backward(Device& device, View<accumulate_t<T>, 2> d_table, View<T, 2> dx, View<const std::int32_t, 1> tokens, std::int64_t first, double scale) {
  constexpr int threads = 128;
  const std::int64_t columns = dx.extent(1);
  const bool all_wide = fits_wide<T>(columns, d_table.data, dx.data);
  const std::int64_t vectors = all_wide ? columns / wide<T> : columns;
  launch(device, {.name = "embed_backward", .blocks = dx.extent(0), .threads = threads, .shared_bytes = threads * sizeof(int), .blocks_y = ceil_div(vectors, threads)},
         all_wide ? embed_backward_kernel<T, wide<T>> : embed_backward_kernel<T, 1>, d_table.data, dx.data, tokens.data, first, d_table.extent(0),
         dx.extent(0), columns, static_cast<accumulate_t<T>>(scale));
}

}  // namespace golem::cuda
