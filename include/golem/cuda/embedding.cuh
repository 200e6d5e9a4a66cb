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
  return {.name = name, .early = true, .blocks = vectors ? rows * ceil_div(vectors, row_steps * threads) : 0, .threads = static_cast<int>(threads)};
}
inline unsigned strips_of(const Launch& how, std::int64_t rows) { return rows ? static_cast<unsigned>(how.blocks / rows) : 0; }

/// to row i = from row rows[i] - first, or zeros where `from` has no such row. An Item is a Vector or an element.
template <class Item>
__global__ void __launch_bounds__(256) take_rows_kernel(Item* to, const Item* from, const std::int32_t* rows, std::int64_t first, std::int64_t available, std::int64_t items, unsigned strips) {
  ptx::begin_kernel();
  const std::int64_t i = blockIdx.x / strips, row = rows[i] - first, v = std::int64_t{blockIdx.x % strips} * row_steps * blockDim.x + threadIdx.x;
  Item held[row_steps]{};
#pragma unroll
  for (int s = 0; s < row_steps; ++s)
    if (v + s * blockDim.x < items && row >= 0 && row < available) held[s] = from[row * items + v + s * blockDim.x];
#pragma unroll
  for (int s = 0; s < row_steps; ++s)
    if (v + s * blockDim.x < items) to[i * items + v + s * blockDim.x] = held[s];
}

/// Token number n.
struct alignas(8) PlacedToken {
  std::int32_t token, n;
};

/// The tokens in the order of (token, n): each warp counts how many come before its own.
template <class Token>
__global__ void __launch_bounds__(256) sort_tokens_kernel(PlacedToken* sorted, const Token* tokens, std::int64_t count) {
  ptx::begin_kernel();
  const std::int64_t n = first_item() / 32;
  if (n >= count) return;
  const Token token = tokens[n];
  int before = 0;
#pragma unroll 4
  for (std::int64_t i = ptx::lane(); i < count; i += 32) before += tokens[i] < token || (tokens[i] == token && i < n);
  before = warp_sum(before);
  if (ptx::lane() == 0) sorted[before] = {token, static_cast<std::int32_t>(n)};
}

/// Block (i, strip) adds, for one strip of columns, the gradients of all tokens that are the same as the i-th of the sorted, in the
/// order of n; it has nothing to do where the one before is the same.
template <class T, int Width>
__global__ void __launch_bounds__(256) embed_backward_kernel(accumulate_t<T>* d_table, const T* dx, const PlacedToken* sorted, std::int64_t first, std::int64_t available, std::int64_t count,
                                                             std::int64_t columns, accumulate_t<T> scale, unsigned strips) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  constexpr int ahead = 2;  // gradients that are under way at once
  const std::int64_t i = blockIdx.x / strips, column = (std::int64_t{blockIdx.x % strips} * row_steps * blockDim.x + threadIdx.x) * Width, step = std::int64_t{blockDim.x} * Width;
  const std::int32_t token = sorted[i].token;
  const std::int64_t row = token - first;
  if (row < 0 || row >= available || (i > 0 && sorted[i - 1].token == token)) return;
  A* into = d_table + row * columns + column;
  A sum[row_steps][Width];
#pragma unroll
  for (int s = 0; s < row_steps; ++s)
    if (column + s * step < columns) load(sum[s], into + s * step);
  bool more = true;
  for (std::int64_t j = i; more; j += ahead) {
    A term[ahead][row_steps][Width]{};
#pragma unroll
    for (int a = 0; a < ahead; ++a) {
      more = j + a < count && sorted[j + a].token == token;
#pragma unroll
      for (int s = 0; s < row_steps; ++s)
        if (more && column + s * step < columns) load(term[a][s], dx + sorted[j + a].n * columns + column + s * step);
    }
#pragma unroll
    for (int a = 0; a < ahead; ++a)
#pragma unroll
      for (int s = 0; s < row_steps; ++s)
#pragma unroll
        for (int w = 0; w < Width; ++w) sum[s][w] += scale * term[a][s][w];
  }
#pragma unroll
  for (int s = 0; s < row_steps; ++s)
    if (column + s * step < columns) store(into + s * step, sum[s]);
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
  using A = accumulate_t<T>;
  const std::int64_t count = dx.extent(0), columns = dx.extent(1);
  PlacedToken* sorted = device.workspace<PlacedToken>(count);
  launch(device, {.name = "sort_tokens", .early = true, .blocks = ceil_div(count * 32, 256)}, sort_tokens_kernel<std::int32_t>, sorted, tokens.data, count);
  const bool all_wide = fits_wide<A>(columns, d_table.data, dx.data);
  const Launch how = by_rows("embed_backward", count, all_wide ? columns / wide<A> : columns);
  launch(device, how, all_wide ? embed_backward_kernel<T, wide<A>> : embed_backward_kernel<T, 1>, d_table.data, dx.data, sorted, first, d_table.extent(0), count, columns, static_cast<A>(scale),
         strips_of(how, count));
}

}  // namespace golem::cuda
