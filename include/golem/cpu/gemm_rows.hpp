// Projection of a few rows, as in decoding: the weights are read once from memory, as they lie, and nothing is packed.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

#include "golem/core/tensor.hpp"
#include "golem/cpu/device.hpp"
#include "golem/cpu/gemm_kernels.hpp"

namespace golem::cpu {

/// y[n, o] = x[n] . w[o] + bias[o] for outputs [first, first + count). x is held as A, its rows filled up with zeros to whole vectors.
/// Each sum has one order of its own, whatever else is computed beside it.
template <class A, class T, class Y>
struct DotRows {
  Y* y;
  std::int64_t y_stride;
  const A* x;
  std::int64_t rows, x_stride;
  const T* w;
  std::int64_t depth;
  const T* bias;
  std::int64_t first, count;

  template <int bytes>
  [[gnu::always_inline]] void at() const {
    constexpr int group = bytes == 64 ? 4 : 2;  // rows of x at once: with four rows of w, their sums fill the registers
    std::int64_t o = first;
    const std::int64_t end = first + count;
    for (; o + 4 <= end; o += 4) {
      std::int64_t n = 0;
      for (; n + group <= rows; n += group) block<bytes, 4, group>(n, o);
      for (; n < rows; ++n) block<bytes, 4, 1>(n, o);
    }
    for (; o < end; ++o)
      for (std::int64_t n = 0; n < rows; ++n) block<bytes, 1, 1>(n, o);
  }

 private:
  template <int bytes, int outputs, int group>
  [[gnu::always_inline]] void block(std::int64_t n, std::int64_t o) const {
    using V = Vector<A, bytes>;
    constexpr std::int64_t lanes = bytes / static_cast<int>(sizeof(A));
    V sum[outputs][group] = {};
    std::int64_t k = 0;
    for (; k + lanes <= depth; k += lanes) {
      V left[group];
#pragma GCC unroll 4
      for (int r = 0; r < group; ++r) std::memcpy(&left[r], x + (n + r) * x_stride + k, bytes);
#pragma GCC unroll 4
      for (int i = 0; i < outputs; ++i) {
        V right;
        load_as<A, bytes>(right, w + (o + i) * depth + k);
#pragma GCC unroll 4
        for (int r = 0; r < group; ++r) sum[i][r] += left[r] * right;
      }
    }
    if (k < depth) {
#pragma GCC unroll 4
      for (int i = 0; i < outputs; ++i) {
        T rest[lanes] = {};
        for (std::int64_t l = 0; l < depth - k; ++l) rest[l] = w[(o + i) * depth + k + l];
        V right;
        load_as<A, bytes>(right, rest);
#pragma GCC unroll 4
        for (int r = 0; r < group; ++r) {
          V left;
          std::memcpy(&left, x + (n + r) * x_stride + k, bytes);
          sum[i][r] += left * right;
        }
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < outputs; ++i)
#pragma GCC unroll 4
      for (int r = 0; r < group; ++r) {
        A lane[lanes];
        std::memcpy(lane, &sum[i][r], bytes);
        for (std::int64_t half = lanes / 2; half > 0; half /= 2)
          for (std::int64_t l = 0; l < half; ++l) lane[l] += lane[l + half];
        y[(n + r) * y_stride + o + i] = static_cast<Y>(lane[0] + (bias ? static_cast<A>(bias[o + i]) : A{0}));
      }
  }
};

/// y = x wT + bias for few rows: y (rows, outputs), x (rows, depth), w (outputs, depth), bias (outputs) or null.
template <class T, class Y>
void project_rows(Device& device, View<Y, 2> y, View<const T, 2> x, View<const T, 2> w, const T* bias) {
  using A = accumulate_t<T>;
  constexpr std::int64_t piece = 16;  // outputs
  const std::int64_t rows = x.extent(0), depth = x.extent(1), outputs = w.extent(0), stride = round_up(depth, 64 / static_cast<int>(sizeof(A)));
  A* const wide = device.shared_scratch<A>(rows * stride);
  device.parallel(rows, [&](std::int64_t n) {
    for (std::int64_t k = 0; k < stride; ++k) wide[n * stride + k] = k < depth ? static_cast<A>(x.data[n * depth + k]) : A{0};
  });
  device.parallel(ceil_div(outputs, piece), [&](std::int64_t i) {
    run_on(device.isa(), DotRows<A, T, Y>{y.data, outputs, wide, rows, stride, w.data, depth, bias, i * piece, smaller(piece, outputs - i * piece)});
  });
}

}  // namespace golem::cpu
