// LayerNorm fused with the residual, forward and backward (spec 1.2): a row is read once and written once.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "golem/core/math.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cpu/device.hpp"
#include "golem/cpu/simd_rows.hpp"

namespace golem::cpu {

/// x = alpha x + other: the residual.
template <class T, Rounding rounding, class V, class A>
[[gnu::always_inline]] inline void scale_and_add(V& x, A alpha, const V& other) {
  if constexpr (rounding == Rounding::once) {
    x = x * alpha + other;
  } else {
    x *= alpha;
    round_to<T>(x);
    x += other;
  }
}

/// One row: sum = alpha a + b, in T (sum may be y's memory; b may be null, then sum is not written and a is normalised).
template <class T, Rounding rounding>
struct NormalizeRow {
  template <int Bytes>
  [[gnu::always_inline]] static void run(T* y, T* sum, const T* a, const T* b, accumulate_t<T> alpha, const T* gamma, const T* beta, accumulate_t<T> eps,
                                         accumulate_t<T>* mean_out, accumulate_t<T>* rstd_out, std::int64_t count) {
    using A = accumulate_t<T>;
    using V = Lanes<A, Bytes>;
    V total{}, squares{};
    for (std::int64_t i = 0; i < count; i += lane_count<V>) {
      V x;
      load_up_to(x, a + i, count - i);
      if (b) {
        V branch;
        load_up_to(branch, b + i, count - i);
        scale_and_add<T, rounding>(x, alpha, branch);
        store_up_to(sum + i, x, count - i);
        load_up_to(x, sum + i, count - i);  // as stored, after rounding
      }
      total += x;
    }
    const T* x_row = b ? sum : a;
    const A mean = sum_lanes(total) / static_cast<A>(count);
    for (std::int64_t i = 0; i < count; i += lane_count<V>) {
      V x;
      load_up_to(x, x_row + i, count - i);
      x -= mean;
      if (count - i < lane_count<V>)
        for (std::int64_t j = count - i; j < lane_count<V>; ++j) x[j] = 0;
      squares += x * x;
    }
    const A rstd = 1 / std::sqrt(sum_lanes(squares) / static_cast<A>(count) + eps);
    for (std::int64_t i = 0; i < count; i += lane_count<V>) {
      V x, g, shift;
      load_up_to(x, x_row + i, count - i);
      load_up_to(g, gamma + i, count - i);
      load_up_to(shift, beta + i, count - i);
      store_up_to(y + i, V((x - mean) * rstd * g + shift), count - i);
    }
    if (mean_out) *mean_out = mean, *rstd_out = rstd;
  }
};

/// One row of the backward; d_gamma and d_beta grow.
template <class T>
struct NormalizeBackwardRow {
  template <int Bytes>
  [[gnu::always_inline]] static void run(T* dx, accumulate_t<T>* d_gamma, accumulate_t<T>* d_beta, const T* dy, const T* inside, const T* outside, accumulate_t<T> alpha,
                                         const T* x_row, const T* gamma, accumulate_t<T> mean, accumulate_t<T> rstd, std::int64_t count) {
    using A = accumulate_t<T>;
    using V = Lanes<A, Bytes>;
    V sum{}, dot{};
    for (std::int64_t i = 0; i < count; i += lane_count<V>) {
      const std::int64_t rest = count - i;
      V up, x, g, slope, shift;
      upstream(up, dy, inside, alpha, i, rest);
      load_up_to(x, x_row + i, rest);
      x = (x - mean) * rstd;
      load_up_to(g, gamma + i, rest);
      load_up_to(slope, d_gamma + i, rest);
      load_up_to(shift, d_beta + i, rest);
      store_up_to(d_gamma + i, V(slope + up * x), rest);
      store_up_to(d_beta + i, V(shift + up), rest);
      up *= g;
      sum += up;
      dot += up * x;
    }
    const A mean_up = sum_lanes(sum) / static_cast<A>(count), mean_dot = sum_lanes(dot) / static_cast<A>(count);
    for (std::int64_t i = 0; i < count; i += lane_count<V>) {
      const std::int64_t rest = count - i;
      V up, x, g;
      upstream(up, dy, inside, alpha, i, rest);
      load_up_to(x, x_row + i, rest);
      x = (x - mean) * rstd;
      load_up_to(g, gamma + i, rest);
      V d = (up * g - mean_up - x * mean_dot) * rstd;
      if (outside) {
        V passed;
        load_up_to(passed, outside + i, rest);
        d += passed;
      }
      store_up_to(dx + i, d, rest);
    }
  }

  template <class V>
  [[gnu::always_inline]] static void upstream(V& up, const T* dy, const T* inside, accumulate_t<T> alpha, std::int64_t i, std::int64_t rest) {
    load_up_to(up, dy + i, rest);
    if (!inside) return;
    V residual;
    load_up_to(residual, inside + i, rest);
    up += residual * alpha;
  }
};

/// y = alpha a + b; b may be null.
template <class T, Rounding rounding>
struct AddScaledRow {
  template <int Bytes>
  [[gnu::always_inline]] static void run(T* y, const T* a, const T* b, accumulate_t<T> alpha, std::int64_t count) {
    using V = Lanes<accumulate_t<T>, Bytes>;
    for (std::int64_t i = 0; i < count; i += lane_count<V>) {
      V x, other{};
      load_up_to(x, a + i, count - i);
      if (b) load_up_to(other, b + i, count - i);
      scale_and_add<T, rounding>(x, alpha, other);
      store_up_to(y + i, x, count - i);
    }
  }
};

/// y (N, C) = (x - mean) rstd gamma + beta, rstd = 1 / sqrt(variance + eps); statistics in A, to mean and rstd (N) unless empty.
template <class T>
void normalize(Device& device, View<T, 2> y, std::type_identity_t<View<const T, 2>> x, std::type_identity_t<View<const T, 1>> gamma,
               std::type_identity_t<View<const T, 1>> beta, double eps, std::type_identity_t<View<accumulate_t<T>, 1>> mean,
               std::type_identity_t<View<accumulate_t<T>, 1>> rstd) {
  using A = accumulate_t<T>;
  device.parallel(x.extent(0), [&](std::int64_t n) {
    run_on<NormalizeRow<T, Rounding::once>>(device.isa(), y.row(n), static_cast<T*>(nullptr), x.row(n), static_cast<const T*>(nullptr), A{1}, gamma.data, beta.data,
                                static_cast<A>(eps), mean ? &mean(n) : nullptr, mean ? &rstd(n) : nullptr, x.extent(1));
  });
}

/// sum = alpha a + b, rounded to T (alpha a as well, where rounding is stepwise); y = LN(sum).
template <class T>
void normalize_sum(Device& device, View<T, 2> y, View<T, 2> sum, std::type_identity_t<View<const T, 2>> a, std::type_identity_t<View<const T, 2>> b, double alpha,
                   std::type_identity_t<View<const T, 1>> gamma, std::type_identity_t<View<const T, 1>> beta, double eps,
                   std::type_identity_t<View<accumulate_t<T>, 1>> mean, std::type_identity_t<View<accumulate_t<T>, 1>> rstd, Rounding rounding = Rounding::once) {
  using A = accumulate_t<T>;
  const auto row = [&]<Rounding r>(std::int64_t n) {
    run_on<NormalizeRow<T, r>>(device.isa(), y.row(n), sum.row(n), static_cast<const T*>(a.row(n)), static_cast<const T*>(b.row(n)), static_cast<A>(alpha), gamma.data,
                               beta.data, static_cast<A>(eps), mean ? &mean(n) : nullptr, mean ? &rstd(n) : nullptr, a.extent(1));
  };
  device.parallel(a.extent(0), [&](std::int64_t n) {
    if (rounding == Rounding::stepwise) row.template operator()<Rounding::stepwise>(n);
    else row.template operator()<Rounding::once>(n);
  });
}

/// y = alpha a + b, element by element; b may be empty, y may be a or b. Rounding::stepwise rounds alpha a as well.
template <class T>
void add_scaled(Device& device, View<T, 2> y, std::type_identity_t<View<const T, 2>> a, std::type_identity_t<View<const T, 2>> b, double alpha, Rounding rounding = Rounding::once) {
  const auto scale = static_cast<accumulate_t<T>>(alpha);
  device.parallel(y.extent(0), [&](std::int64_t n) {
    const T* other = b ? b.row(n) : nullptr;
    if (rounding == Rounding::stepwise) run_on<AddScaledRow<T, Rounding::stepwise>>(device.isa(), y.row(n), a.row(n), other, scale, y.extent(1));
    else run_on<AddScaledRow<T, Rounding::once>>(device.isa(), y.row(n), a.row(n), other, scale, y.extent(1));
  });
}

/// y (N, C) += bias (C): a bias that joins a result after it was rounded.
template <class T>
void add_bias(Device& device, View<T, 2> y, std::type_identity_t<View<const T, 1>> bias) {
  device.parallel(y.extent(0), [&](std::int64_t n) {
    run_on<AddScaledRow<T, Rounding::once>>(device.isa(), y.row(n), static_cast<const T*>(y.row(n)), bias.data, accumulate_t<T>{1}, y.extent(1));
  });
}

/// dx = LN'(dy + alpha inside) + outside; d_gamma, d_beta (C) grow. dx may be dy's memory. x is the norm's input.
template <class T>
void normalize_backward(Device& device, View<T, 2> dx, View<accumulate_t<T>, 1> d_gamma, View<accumulate_t<T>, 1> d_beta, std::type_identity_t<View<const T, 2>> dy,
                        std::type_identity_t<View<const T, 2>> x, std::type_identity_t<View<const T, 1>> gamma,
                        std::type_identity_t<View<const accumulate_t<T>, 1>> mean, std::type_identity_t<View<const accumulate_t<T>, 1>> rstd,
                        const std::type_identity_t<ResidualGradient<T>>& residual) {
  using A = accumulate_t<T>;
  constexpr std::int64_t piece = 64;  // rows that share one partial sum, whatever the number of threads
  const std::int64_t rows = x.extent(0), columns = x.extent(1), pieces = ceil_div(rows, piece);
  A* partial = device.shared_scratch<A>(2 * pieces * columns);
  device.parallel(pieces, [&](std::int64_t p) {
    A* slope = partial + 2 * p * columns;
    A* shift = slope + columns;
    for (std::int64_t i = 0; i < 2 * columns; ++i) slope[i] = 0;
    for (std::int64_t n = p * piece; n < smaller(rows, (p + 1) * piece); ++n)
      run_on<NormalizeBackwardRow<T>>(device.isa(), dx.row(n), slope, shift, dy.row(n), residual.inside ? residual.inside.row(n) : nullptr,
                                          residual.outside ? residual.outside.row(n) : nullptr, static_cast<A>(residual.alpha), x.row(n), gamma.data, mean(n), rstd(n),
                                          columns);
  });
  for (std::int64_t p = 0; p < pieces; ++p)
    for (std::int64_t i = 0; i < columns; ++i) {
      d_gamma(i) += partial[2 * p * columns + i];
      d_beta(i) += partial[(2 * p + 1) * columns + i];
    }
}

}  // namespace golem::cpu
