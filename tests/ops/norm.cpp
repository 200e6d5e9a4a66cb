// LayerNorm with its residual against a plain double loop: odd sizes, every element type and instruction set.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <vector>

#include "ops/numbers.hpp"

using namespace ops;

TEMPLATE_TEST_CASE("LayerNorm with its residual, forward and backward", "", float, double, bfloat16, float16) {
  using T = TestType;
  using A = accumulate_t<T>;
  Numbers<T> a(rows * columns, 1), b(rows * columns, 2), gamma(columns, 3, 0.3, 1), beta(columns, 4, 0.3), dy(rows * columns, 5), outside(rows * columns, 6);
  const double alpha = 2.5, eps = 1e-5;
  on_each_isa([&](cpu::Device& device) {
    Numbers<T> y(rows * columns), sum(rows * columns), dx(rows * columns);
    std::vector<A> mean(rows), rstd(rows), d_gamma(columns, A(0.5)), d_beta(columns);
    normalize_sum(device, y.matrix(rows), sum.matrix(rows), a.matrix(rows), b.matrix(rows), alpha, gamma.vector(), beta.vector(), eps, View<A, 1>{mean.data(), rows}, View<A, 1>{rstd.data(), rows});
    normalize_backward(device, dx.matrix(rows), View<A, 1>{d_gamma.data(), columns}, View<A, 1>{d_beta.data(), columns}, dy.matrix(rows), sum.matrix(rows), gamma.vector(),
                       View<A, 1>{mean.data(), rows}, View<A, 1>{rstd.data(), rows}, ResidualGradient<T>{.inside = a.matrix(rows), .outside = outside.matrix(rows), .alpha = alpha});
    std::vector<double> want_y, want_sum, want_dx, want_gamma(columns, 0.5), want_beta(columns);
    for (std::int64_t n = 0; n < rows; ++n) {
      double m = 0, v = 0, up_mean = 0, up_dot = 0;
      std::vector<double> x(columns), up(columns);
      for (std::size_t i = 0; i < columns; ++i) {
        const std::size_t at = static_cast<std::size_t>(n) * columns + i;
        want_sum.push_back(alpha * a.exact[at] + b.exact[at]);
        x[i] = static_cast<double>(sum.typed[at]);  // as stored
        up[i] = dy.exact[at] + alpha * a.exact[at];
        m += x[i] / columns;
      }
      for (const double value : x) v += (value - m) * (value - m) / columns;
      const double r = 1 / std::sqrt(v + eps);
      for (std::size_t i = 0; i < columns; ++i) {
        const double hat = (x[i] - m) * r;
        want_y.push_back(hat * gamma.exact[i] + beta.exact[i]);
        want_gamma[i] += up[i] * hat, want_beta[i] += up[i];
        up_mean += up[i] * gamma.exact[i] / columns, up_dot += up[i] * gamma.exact[i] * hat / columns;
      }
      for (std::size_t i = 0; i < columns; ++i) want_dx.push_back(r * (up[i] * gamma.exact[i] - up_mean - (x[i] - m) * r * up_dot) + outside.exact[static_cast<std::size_t>(n) * columns + i]);
    }
    CHECK(difference(sum.typed, want_sum, 4) == "");
    CHECK(difference(y.typed, want_y, 4) == "");
    CHECK(difference(dx.typed, want_dx, 8) == "");
    CHECK(difference(d_gamma, want_gamma, 40) == "");
    CHECK(difference(d_beta, want_beta, 40) == "");
  });
}
