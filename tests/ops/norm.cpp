// LayerNorm with its residual against a plain double loop: odd and even widths, every element type, on every device.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "ops/numbers.hpp"

using namespace ops;

namespace {

// Odd; then in vectors of 16-bit elements: a step of a GPU's block, two, three, four of them, and more than it holds at once.
std::vector<std::int64_t> widths() { return {1, 37, 64, 1272, 2136, 4104, 12296, 33000}; }
// Some have more rows than a GPU, or a host that stands in for one, starts blocks for: those take several in turn.
template <class T>
std::int64_t rows_of(std::int64_t width) {
  if (width == 64 && std::is_same_v<T, bfloat16>) return 700;
  return width > 10000 ? 2 : width == 4104 ? 9 : rows;
}

}  // namespace

TEMPLATE_TEST_CASE("LayerNorm with its residual, forward and backward", "", float, double, bfloat16, float16) {
  using T = TestType;
  using A = accumulate_t<T>;
  for (const std::int64_t width : widths()) {
    const std::int64_t count = rows_of<T>(width);
    const auto w = static_cast<std::size_t>(width);
    const Numbers<T> a(count * width, 1), b(count * width, 2), gamma(width, 3, 0.3, 1), beta(width, 4, 0.3), dy(count * width, 5), outside(count * width, 6);
    const double alpha = 2.5, eps = 1e-5;
    INFO("width " << width);
    on_each_device([&](TestDevice& device) {
      const Tensor<T> a_(device, a), b_(device, b), gamma_(device, gamma), beta_(device, beta), dy_(device, dy), outside_(device, outside);
      const Tensor<T> y(device, count * width), sum(device, count * width), alone(device, count * width);
      const Tensor<A> mean(device, count), rstd(device, count);
      normalize_sum(device, y.matrix(count), sum.matrix(count), a_.matrix(count), b_.matrix(count), alpha, gamma_.vector(), beta_.vector(), eps, mean.vector(), rstd.vector());
      normalize(device, alone.matrix(count), sum.matrix(count), gamma_.vector(), beta_.vector(), eps, View<A, 1>{}, View<A, 1>{});
      const std::vector<T> stored = sum.typed();
      std::vector<double> want_y, want_sum, hats, rs;  // normalised elements; 1 / deviations of rows
      for (std::int64_t n = 0; n < count; ++n) {
        double m = 0, v = 0;
        const auto row = static_cast<std::size_t>(n) * w;
        for (std::size_t i = 0; i < w; ++i) {
          want_sum.push_back(alpha * a.exact[row + i] + b.exact[row + i]);
          m += static_cast<double>(stored[row + i]) / static_cast<double>(width);
        }
        for (std::size_t i = 0; i < w; ++i) v += (static_cast<double>(stored[row + i]) - m) * (static_cast<double>(stored[row + i]) - m) / static_cast<double>(width);
        rs.push_back(1 / std::sqrt(v + eps));
        for (std::size_t i = 0; i < w; ++i) {
          hats.push_back((static_cast<double>(stored[row + i]) - m) * rs.back());
          want_y.push_back(hats.back() * gamma.exact[i] + beta.exact[i]);
        }
      }
      CHECK(difference(stored, want_sum, 4) == "");
      CHECK(difference(y, want_y, 4) == "");
      CHECK(difference(alone, want_y, 4) == "");

      for (int residuals = 3; residuals >= 0; --residuals) {  // both of them; outside alone; inside alone; none
        if (residuals != 3 && width != 64 && width != 12296) continue;
        INFO("residuals " << residuals);
        const bool has_inside = residuals & 1, has_outside = residuals & 2;
        const Tensor<T> dx(device, count * width);
        const Tensor<A> d_gamma(device, std::vector<A>(w, A(0.5))), d_beta(device, width);
        ResidualGradient<T> residual{.inside = {}, .outside = {}, .alpha = alpha};
        if (has_inside) residual.inside = a_.matrix(count);
        if (has_outside) residual.outside = outside_.matrix(count);
        normalize_backward(device, dx.matrix(count), d_gamma.vector(), d_beta.vector(), dy_.matrix(count), sum.matrix(count), gamma_.vector(), mean.vector(), rstd.vector(), residual);
        std::vector<double> want_dx, want_gamma(w, 0.5), want_beta(w);
        for (std::int64_t n = 0; n < count; ++n) {
          double up_mean = 0, up_dot = 0;
          std::vector<double> up(w);
          const auto row = static_cast<std::size_t>(n) * w;
          for (std::size_t i = 0; i < w; ++i) {
            up[i] = dy.exact[row + i] + (has_inside ? alpha * a.exact[row + i] : 0);
            want_gamma[i] += up[i] * hats[row + i], want_beta[i] += up[i];
            up_mean += up[i] * gamma.exact[i] / static_cast<double>(width), up_dot += up[i] * gamma.exact[i] * hats[row + i] / static_cast<double>(width);
          }
          for (std::size_t i = 0; i < w; ++i)
            want_dx.push_back((width == 1 ? 0 : rs[static_cast<std::size_t>(n)] * (up[i] * gamma.exact[i] - up_mean - hats[row + i] * up_dot)) + (has_outside ? outside.exact[row + i] : 0));
        }
        if (width > 1) CHECK(difference(dx, want_dx, 8) == "");  // of one column, rounding times 1 / sqrt(eps)
        CHECK(difference(d_gamma, want_gamma, width > 10000 ? 160 : 40) == "");
        CHECK(difference(d_beta, want_beta, width > 10000 ? 160 : 40) == "");
      }
    });
  }
}

TEMPLATE_TEST_CASE("add_scaled adds, in place or not, with or without a second summand", "", float, double, bfloat16, float16) {
  using T = TestType;
  for (const std::int64_t width : {1, 37, 64}) {
    const Numbers<T> a(rows * width, 1), b(rows * width, 2);
    on_each_device([&](TestDevice& device) {
      const Tensor<T> y(device, rows * width), in_place(device, a), b_(device, b);
      std::vector<double> want, want_scaled;
      for (std::size_t i = 0; i < a.exact.size(); ++i) want.push_back(1.5 * a.exact[i] + b.exact[i]), want_scaled.push_back(0.5 * a.exact[i]);
      add_scaled(device, y.matrix(rows), in_place.matrix(rows), b_.matrix(rows), 1.5);
      add_scaled(device, in_place.matrix(rows), in_place.matrix(rows), View<T, 2>{}, 0.5);
      CHECK(difference(y, want, 3) == "");
      CHECK(difference(in_place, want_scaled, 1) == "");
    });
  }
}

#if defined(GOLEM_TEST_CUDA)
TEST_CASE("the gradient of LayerNorm by asynchronous copies is refused where the program was compiled for an older GPU") {
  for (const std::int64_t width : {64, 2136, 8192})
    check_compiled_for_7_5([&](TestDevice& device) {
      const Numbers<float> x(2 * width, 1), gamma(width, 2), one(2, 3);
      const Tensor<float> x_(device, x), gamma_(device, gamma), mean(device, one), rstd(device, one), dx(device, 2 * width), d_gamma(device, width), d_beta(device, width);
      normalize_backward(device, dx.matrix(2), d_gamma.vector(), d_beta.vector(), x_.matrix(2), x_.matrix(2), gamma_.vector(), mean.vector(), rstd.vector(), {});
    });
}
#endif
