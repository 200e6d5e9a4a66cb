// Projection of a few rows, as in decoding: the weights are read once from memory, as they lie, and nothing is packed.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

#include "golem/core/tensor.hpp"
#include "golem/cpu/device.hpp"
#include "golem/cpu/gemm_kernels.hpp"

namespace golem::cpu {

/// Rows up to which reading the weights takes longer than multiplying.
inline constexpr int few_rows = 16;

/// y[n, o] = x[n] . w[o] + bias[o] for outputs [first, first + count) and at most `few_rows` rows. x is held as A, its rows filled up
/// with zeros to whole vectors. Each sum has one order of its own, whatever else is computed beside it.
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
    std::int64_t o = first;
    for (; o + 4 <= first + count; o += 4) outputs<bytes, 4>(o);
    for (; o < first + count; ++o) outputs<bytes, 1>(o);
  }

 private:
  /// `width` outputs for all rows. The depth is cut so that its piece of all rows of x stays in the first-level cache while w streams by.
  template <int bytes, int width>
  [[gnu::always_inline]] void outputs(std::int64_t o) const {
    constexpr int group = bytes == 64 ? 4 : 2;  // rows of x at once: with four outputs, their sums fill the registers
    constexpr std::int64_t piece = 2048 / sizeof(A), lanes = bytes / static_cast<int>(sizeof(A));
    Vector<A, bytes> sums[few_rows][width];
    for (std::int64_t n = 0; n < rows; ++n)
      for (int i = 0; i < width; ++i) sums[n][i] = Vector<A, bytes>{};
    alignas(64) A wide[width * piece];
    for (std::int64_t k = 0; k < depth; k += piece) {
      const std::int64_t count = smaller(piece, depth - k);
      if (count % lanes == 0 && (std::is_same_v<T, A> || rows <= group)) {
        add_all<bytes, width, group>(sums, w + o * depth + k, depth, k, count);
        continue;
      }
      for (int i = 0; i < width; ++i) widen<bytes>(wide + i * piece, w + (o + i) * depth + k, count);
      add_all<bytes, width, group>(sums, wide, piece, k, count);
    }
    for (std::int64_t n = 0; n < rows; ++n)
      for (int i = 0; i < width; ++i) {
        A lane[lanes];
        std::memcpy(lane, &sums[n][i], bytes);
        for (std::int64_t half = lanes / 2; half > 0; half /= 2)
          for (std::int64_t l = 0; l < half; ++l) lane[l] += lane[l + half];
        y[n * y_stride + o + i] = static_cast<Y>(lane[0] + (bias ? static_cast<A>(bias[o + i]) : A{0}));
      }
  }

  /// to = the elements of `from` as A, filled up with zeros to a whole vector.
  template <int bytes>
  [[gnu::always_inline]] static void widen(A* to, const T* from, std::int64_t count) {
    constexpr std::int64_t lanes = bytes / static_cast<int>(sizeof(A));
    std::int64_t k = 0;
    for (; k + lanes <= count; k += lanes) {
      Vector<A, bytes> v;
      load_as<A, bytes>(v, from + k);
      std::memcpy(to + k, &v, bytes);
    }
    for (; k < round_up(count, lanes); ++k) to[k] = k < count ? static_cast<A>(from[k]) : A{0};
  }

  /// sums += products of all rows of x and `width` rows of w (as they lie, or widened), from k on, `count` deep.
  template <int bytes, int width, int group, class S>
  [[gnu::always_inline]] void add_all(Vector<A, bytes> (*sums)[width], const S* right, std::int64_t right_stride, std::int64_t k,
                                      std::int64_t count) const {
    std::int64_t n = 0;
    for (; n + group <= rows; n += group) add<bytes, width, group>(sums + n, x + n * x_stride + k, right, right_stride, count);
    for (; n < rows; ++n) add<bytes, width, 1>(sums + n, x + n * x_stride + k, right, right_stride, count);
  }

  /// The same for `group` rows of x and `width` rows of w, `count` deep.
  template <int bytes, int width, int group, class S>
  [[gnu::always_inline]] void add(Vector<A, bytes> (*sums)[width], const A* left, const S* right, std::int64_t right_stride,
                                  std::int64_t count) const {
    using V = Vector<A, bytes>;
    V sum[group][width];
#pragma GCC unroll 4
    for (int r = 0; r < group; ++r)
#pragma GCC unroll 4
      for (int i = 0; i < width; ++i) sum[r][i] = sums[r][i];
    for (std::int64_t k = 0; k < count; k += bytes / static_cast<int>(sizeof(A))) {
      V a[group], b;
#pragma GCC unroll 4
      for (int r = 0; r < group; ++r) std::memcpy(&a[r], left + r * x_stride + k, bytes);
#pragma GCC unroll 4
      for (int i = 0; i < width; ++i) {
        load_as<A, bytes>(b, right + i * right_stride + k);
#pragma GCC unroll 4
        for (int r = 0; r < group; ++r) sum[r][i] += a[r] * b;
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < group; ++r)
#pragma GCC unroll 4
      for (int i = 0; i < width; ++i) sums[r][i] = sum[r][i];
  }
};

/// y = x wT + bias for at most `few_rows` rows: y (rows, outputs), x (rows, depth), w (outputs, depth), bias (outputs) or null.
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
