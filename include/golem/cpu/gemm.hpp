// The dense products of a linear layer: y = x wT + b, and the gradients of x, w and b.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/core/error.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cpu/device.hpp"
#include "golem/cpu/gemm_onednn.hpp"
#include "golem/cpu/gemm_plain.hpp"
#include "golem/cpu/gemm_rows.hpp"
#include "golem/cpu/simd_rows.hpp"

namespace golem::cpu {

/// Who multiplies: oneDNN floats, and bfloat16 where the processor is fast at it; golem the rest. A device that was asked for less than the
/// processor has runs golem's kernels of that instruction set, since oneDNN takes no such argument.
template <class T, class Y>
void multiply(Device& device, const Product<T, Y>& product) {
#if GOLEM_ONEDNN
  if constexpr (std::is_same_v<T, float> || std::is_same_v<T, bfloat16>)
    if (device.isa() == detect_isa() && (std::is_same_v<T, float> || multiplies_bfloat16_fast())) return multiply_onednn(device, product);
#endif
  multiply_plain(device, product);
}

/// Whether training in bfloat16 is faster here than in fp32: where oneDNN multiplies it fast. golem's own kernels widen it.
inline bool prefers_bf16() {
#if GOLEM_ONEDNN && defined(__x86_64__)
  return multiplies_bfloat16_fast();
#else
  return false;
#endif
}

/// y = x wT + bias.   y (N, O), x (N, I), w (O, I), bias (O) or empty. y is of x's type T, or of accumulate_t<T> (logits).
/// Sums are held in accumulate_t<T> and rounded once. Throws Error where shapes disagree.
template <class Y, class X>
void project(Device& device, View<Y, 2> y, View<X, 2> x, std::type_identity_t<View<const std::remove_const_t<X>, 2>> w,
             std::type_identity_t<View<const std::remove_const_t<X>, 1>> bias) {
  using T = std::remove_const_t<X>;
  static_assert(std::is_same_v<Y, T> || std::is_same_v<Y, accumulate_t<T>>, "golem: project writes the type of x, or what it accumulates in");
  const std::int64_t rows = x.extent(0), inputs = x.extent(1), outputs = w.extent(0);
  require(w.extent(1) == inputs && y.extent(0) == rows && y.extent(1) == outputs && (!bias || bias.extent(0) == outputs), "project: y ", shape_of(y),
          " = x ", shape_of(x), " times w ", shape_of(w), " transposed, plus bias ", shape_of(bias),
          ": shapes must be (N, O), (N, I), (O, I) and (O)");
  if (rows <= 0 || outputs <= 0) return;
  if (rows <= few_rows) return project_rows<T, Y>(device, y, x, w, bias.data);
  multiply(device, Product<T, Y>{rows, outputs, inputs, {x.data, inputs, 1}, {w.data, inputs, 1}, y.data, outputs, bias.data});
}

/// dx = dy w.   dx (N, I), dy (N, O), w (O, I). dx is of dy's type T, or of accumulate_t<T>. Throws Error where shapes disagree.
template <class X, class Dy>
void project_backward_input(Device& device, View<X, 2> dx, View<Dy, 2> dy, std::type_identity_t<View<const std::remove_const_t<Dy>, 2>> w) {
  using T = std::remove_const_t<Dy>;
  static_assert(std::is_same_v<X, T> || std::is_same_v<X, accumulate_t<T>>,
                "golem: project_backward_input writes the type of dy, or what it accumulates in");
  const std::int64_t rows = dy.extent(0), outputs = dy.extent(1), inputs = w.extent(1);
  require(w.extent(0) == outputs && dx.extent(0) == rows && dx.extent(1) == inputs, "project_backward_input: dx ", shape_of(dx), " = dy ",
          shape_of(dy), " times w ", shape_of(w), ": shapes must be (N, I), (N, O) and (O, I)");
  if (rows <= 0 || inputs <= 0) return;
  multiply(device, Product<T, X>{rows, inputs, outputs, {dy.data, outputs, 1}, {w.data, 1, inputs}, dx.data, inputs});
}

/// sums += the sums of up to 64 columns of x, whose rows are `stride` apart, in blocks of 64 rows.
template <class T>
struct SumColumns {
  using A = accumulate_t<T>;
  static constexpr std::int64_t strip = 64, block = 64;

  template <int Bytes>
  [[gnu::always_inline]] static void run(A* sums, const T* x, std::int64_t rows, std::int64_t stride, std::int64_t columns) {
    using V = Lanes<A, Bytes>;
    constexpr int lanes = lane_count<V>, vectors = strip / lanes;
    V total[vectors] = {};
    for (std::int64_t start = 0; start < rows; start += block) {
      V part[vectors] = {};
      for (std::int64_t r = start; r < smaller(rows, start + block); ++r)
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) {
          V y;
          load_up_to(y, x + r * stride + v * lanes, columns - v * lanes);
          part[v] += y;
        }
      for (int v = 0; v < vectors; ++v) total[v] += part[v];
    }
    for (std::int64_t v = 0; v * lanes < columns; ++v) {
      V sum;
      load_up_to(sum, sums + v * lanes, columns - v * lanes);
      store_up_to(sums + v * lanes, V(sum + total[v]), columns - v * lanes);
    }
  }
};

/// sums[j] += the sum of column j of x.   sums (O), x (N, O).
template <class T>
void add_column_sums(Device& device, View<accumulate_t<T>, 1> sums, View<const T, 2> x) {
  constexpr std::int64_t strip = SumColumns<T>::strip;
  const std::int64_t columns = x.extent(1);
  device.parallel(ceil_div(columns, strip), [&](std::int64_t i) {
    run_on<SumColumns<T>>(device.isa(), sums.data + i * strip, x.data + i * strip, x.extent(0), columns, smaller(strip, columns - i * strip));
  });
}

/// dw += dyT x, and dbias += column sums of dy.   dw (O, I), dbias (O) or empty, dy (N, O), x (N, I). Throws Error where shapes disagree.
template <class Dy>
void project_backward_weight(Device& device, std::type_identity_t<View<accumulate_t<std::remove_const_t<Dy>>, 2>> dw,
                             std::type_identity_t<View<accumulate_t<std::remove_const_t<Dy>>, 1>> dbias, View<Dy, 2> dy,
                             std::type_identity_t<View<const std::remove_const_t<Dy>, 2>> x) {
  using T = std::remove_const_t<Dy>;
  const std::int64_t rows = dy.extent(0), outputs = dy.extent(1), inputs = x.extent(1);
  require(x.extent(0) == rows && dw.extent(0) == outputs && dw.extent(1) == inputs && (!dbias || dbias.extent(0) == outputs),
          "project_backward_weight: dw ", shape_of(dw), " += dy ", shape_of(dy), " transposed times x ", shape_of(x), ", dbias ", shape_of(dbias),
          ": shapes must be (O, I), (N, O), (N, I) and (O)");
  if (rows <= 0 || outputs <= 0 || inputs <= 0) return;
  if (dbias) add_column_sums<T>(device, dbias, dy);
  multiply(device, Product<T, accumulate_t<T>>{outputs, inputs, rows, {dy.data, 1, outputs}, {x.data, 1, inputs}, dw.data, inputs, nullptr, true});
}

}  // namespace golem::cpu
