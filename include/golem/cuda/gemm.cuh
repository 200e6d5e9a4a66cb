// The dense products of a linear layer on the GPU, through cuBLASLt: y = x wT + b, and the gradients of x, w and b.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/core/error.hpp"
#include "golem/core/math.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/device.hpp"
#include "golem/cuda/partial_sums.cuh"
#include "golem/cuda/products.hpp"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

/// Rows of y, which begin every `step` elements, = bias (O).
template <class Y, class T, int Width>
__global__ void __launch_bounds__(256) repeat_bias_kernel(Y* y, std::int64_t step, const T* bias, std::int64_t rows, std::int64_t vectors) {
  ptx::begin_kernel();
  for (std::int64_t item = first_item(); item < rows * vectors; item += item_step()) {
    accumulate_t<T> term[Width];
    load(term, bias + item % vectors * Width);
    store(y + item / vectors * step + item % vectors * Width, term);
  }
}

/// partial (pieces, O): block (strip, p) sums Width columns a thread over the p-th `rows_each` rows of x (N, O).
template <class T, int Width>
__global__ void __launch_bounds__(128) column_sums_kernel(accumulate_t<T>* partial, const T* x, std::int64_t rows, std::int64_t columns, std::int64_t rows_each) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  const std::int64_t column = first_item() * Width, first = blockIdx.y * rows_each, last = first + rows_each < rows ? first + rows_each : rows;
  if (column >= columns) return;
  A sum[Width]{};
#pragma unroll 4
  for (std::int64_t n = first; n < last; ++n) {
    A term[Width];
    load(term, x + n * columns + column);
#pragma unroll
    for (int w = 0; w < Width; ++w) sum[w] += term[w];
  }
  store(partial + blockIdx.y * columns + column, sum);
}

/// The product of `project`, of shapes that agree. Rows of y begin every `step` elements; the first `kept` bytes of the workspace are left alone (Products::multiply).
template <class Y, class T>
void multiply_linear(Device& device, Y* y, std::int64_t step, View<const T, 2> x, View<const T, 2> w, View<const T, 1> bias, std::int64_t kept = 0) {
  const std::int64_t rows = x.extent(0), inputs = x.extent(1), outputs = w.extent(0);
  Products& products = Products::of(device);
  ProductShape shape{.m = outputs, .n = rows, .k = inputs, .input = dtype_of<T>(), .output = dtype_of<Y>(), .a = Order::transposed, .epilogue = bias ? Epilogue::bias : Epilogue::nothing, .c_step = step};
  if (products.multiply(device, shape, w.data, x.data, y, bias.data, 0, kept)) return;
  shape.epilogue = Epilogue::nothing;  // the bias first, to which the product is added, so that results are still rounded once
  const bool all_wide = fits_wide<T>(outputs, y, bias.data) && step % wide<T> == 0;
  const std::int64_t vectors = all_wide ? outputs / wide<T> : outputs;
  launch(device, {.name = "repeat_bias", .early = true, .blocks = blocks_for(device, rows * vectors, 256)}, all_wide ? repeat_bias_kernel<Y, T, wide<T>> : repeat_bias_kernel<Y, T, 1>, y, step, bias.data, rows, vectors);
  products.multiply(device, shape, w.data, x.data, y, nullptr, 1, kept);
}

/// y = x wT + bias.   y (N, O), x (N, I), w (O, I), bias (O) or empty. y is of x's type T, or of accumulate_t<T> (logits).
/// Sums are held in accumulate_t<T> and rounded once. Throws Error where shapes disagree.
template <class Y, class X>
void project(Device& device, View<Y, 2> y, View<X, 2> x, std::type_identity_t<View<const std::remove_const_t<X>, 2>> w, std::type_identity_t<View<const std::remove_const_t<X>, 1>> bias) {
  using T = std::remove_const_t<X>;
  static_assert(std::is_same_v<Y, T> || std::is_same_v<Y, accumulate_t<T>>, "golem: project writes the type of x, or what it accumulates in");
  const std::int64_t rows = x.extent(0), inputs = x.extent(1), outputs = w.extent(0);
  require(w.extent(1) == inputs && y.extent(0) == rows && y.extent(1) == outputs && (!bias || bias.extent(0) == outputs), "project: y ", shape_of(y), " = x ", shape_of(x), " times w ", shape_of(w),
          " transposed, plus bias ", shape_of(bias), ": shapes must be (N, O), (N, I), (O, I) and (O)");
  if (rows > 0 && outputs > 0) multiply_linear<Y, T>(device, y.data, outputs, x, w, bias);
}

/// dx = dy w.   dx (N, I), dy (N, O), w (O, I). dx is of dy's type T, or of accumulate_t<T>. Throws Error where shapes disagree.
template <class X, class Dy>
void project_backward_input(Device& device, View<X, 2> dx, View<Dy, 2> dy, std::type_identity_t<View<const std::remove_const_t<Dy>, 2>> w) {
  using T = std::remove_const_t<Dy>;
  static_assert(std::is_same_v<X, T> || std::is_same_v<X, accumulate_t<T>>, "golem: project_backward_input writes the type of dy, or what it accumulates in");
  const std::int64_t rows = dy.extent(0), outputs = dy.extent(1), inputs = w.extent(1);
  require(w.extent(0) == outputs && dx.extent(0) == rows && dx.extent(1) == inputs, "project_backward_input: dx ", shape_of(dx), " = dy ", shape_of(dy), " times w ", shape_of(w),
          ": shapes must be (N, I), (N, O) and (O, I)");
  if (rows <= 0 || inputs <= 0) return;
  Products::of(device).multiply(device, {.m = inputs, .n = rows, .k = outputs, .input = dtype_of<T>(), .output = dtype_of<X>()}, w.data, dy.data, dx.data, nullptr, 0);
}

/// sums[j] += the sum of column j of x, piece by piece of rows: as many pieces as keep the GPU busy.   sums (O), x (N, O).
template <class T>
void add_column_sums(Device& device, View<accumulate_t<T>, 1> sums, View<const T, 2> x) {
  using A = accumulate_t<T>;
  constexpr std::int64_t threads = 128, together = 8, fewest_rows = 32;  // of a block; blocks of a multiprocessor
  const bool all_wide = fits_wide<T>(x.extent(1), x.data);
  if (x.size() == 0) return;
  const std::int64_t rows = x.extent(0), columns = x.extent(1), strips = ceil_div(all_wide ? columns / wide<T> : columns, threads);
  const std::int64_t rows_each = larger(fewest_rows, ceil_div(rows, smaller(ceil_div(together * device.multiprocessors(), strips), most_blocks_across))), pieces = ceil_div(rows, rows_each);
  A* partial = device.workspace<A>(pieces * columns);
  launch(device, {.name = "column_sums", .early = true, .blocks = strips, .threads = static_cast<int>(threads), .blocks_y = pieces}, all_wide ? column_sums_kernel<T, wide<T>> : column_sums_kernel<T, 1>, partial, x.data,
         rows, columns, rows_each);
  add_partials<A>(device, sums.data, nullptr, partial, pieces, columns, columns);
}

/// dw += dyT x, and dbias += column sums of dy.   dw (O, I), dbias (O) or empty, dy (N, O), x (N, I). Throws Error where shapes disagree.
/// The sums are kernels of our own: cuBLASLt makes them beside a product only where its result has the inputs' type, and dw has accumulate_t's.
template <class Dy>
void project_backward_weight(Device& device, std::type_identity_t<View<accumulate_t<std::remove_const_t<Dy>>, 2>> dw,
                             std::type_identity_t<View<accumulate_t<std::remove_const_t<Dy>>, 1>> dbias, View<Dy, 2> dy, std::type_identity_t<View<const std::remove_const_t<Dy>, 2>> x) {
  using T = std::remove_const_t<Dy>;
  const std::int64_t rows = dy.extent(0), outputs = dy.extent(1), inputs = x.extent(1);
  require(x.extent(0) == rows && dw.extent(0) == outputs && dw.extent(1) == inputs && (!dbias || dbias.extent(0) == outputs), "project_backward_weight: dw ", shape_of(dw), " += dy ", shape_of(dy),
          " transposed times x ", shape_of(x), ", dbias ", shape_of(dbias), ": shapes must be (O, I), (N, O), (N, I) and (O)");
  if (rows <= 0 || outputs <= 0 || inputs <= 0) return;
  if (dbias) add_column_sums<T>(device, dbias, dy);
  Products::of(device).multiply(device, {.m = inputs, .n = outputs, .k = rows, .input = dtype_of<T>(), .output = dtype_of<accumulate_t<T>>(), .b = Order::transposed}, x.data, dy.data, dw.data,
                                nullptr, 1);
}

}  // namespace golem::cuda
