// GeGLU and GeLU against erfc in double: odd and even sizes, every element type, on every device.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <vector>

#include "ops/numbers.hpp"

using namespace ops;

namespace {

double cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }
double density(double x) { return std::exp(-0.5 * x * x) / std::sqrt(2 * 3.14159265358979323846); }

}  // namespace

TEMPLATE_TEST_CASE("GeGLU and GeLU with the exact erf, forward and backward", "", float, double, bfloat16, float16) {
  using T = TestType;
  for (const Ffn kind : {Ffn::geglu, Ffn::gelu})
    for (const std::int64_t width : {37, 72}) {
      const std::int64_t wide = kind == Ffn::geglu ? 2 * width : width;
      const Numbers<T> u(rows * wide, 1, 2), dy(rows * width, 2);
      on_each_device([&](TestDevice& device) {
        const Tensor<T> u_(device, u), dy_(device, dy), y(device, rows * width), du(device, rows * wide), in_place(device, u);
        activate(device, y.matrix(rows), u_.matrix(rows), kind);
        activate_backward(device, du.matrix(rows), dy_.matrix(rows), u_.matrix(rows), kind);
        activate_backward(device, in_place.matrix(rows), dy_.matrix(rows), in_place.matrix(rows), kind);
        std::vector<double> want(static_cast<std::size_t>(rows * width)), want_du(static_cast<std::size_t>(rows * wide));
        for (std::int64_t n = 0; n < rows; ++n)
          for (std::int64_t i = 0; i < width; ++i) {
            const auto at = static_cast<std::size_t>(n * width + i), first = static_cast<std::size_t>(n * wide + i), gate = kind == Ffn::geglu ? first + static_cast<std::size_t>(width) : first;
            const double x = u.exact[gate], linear = kind == Ffn::geglu ? u.exact[first] : 1;
            want[at] = linear * x * cdf(x);
            if (kind == Ffn::geglu) want_du[first] = dy.exact[at] * x * cdf(x);
            want_du[gate] = dy.exact[at] * linear * (cdf(x) + x * density(x));
          }
        CHECK(difference(y, want) == "");
        CHECK(difference(du, want_du) == "");
        CHECK(difference(in_place, want_du) == "");
      });
    }
}

TEST_CASE("the left tail of GeLU, and what is beyond it") {
  std::vector<float> gate{0.0f, 40.0f, -40.0f, 1e30f};
  for (float x = -8; x < -2; x += 0.03125f) gate.push_back(x);
  const auto count = static_cast<std::int64_t>(gate.size());
  on_each_device([&](TestDevice& device) {
    const Tensor<float> u(device, gate), y(device, count);
    activate(device, y.matrix(1), u.matrix(1), Ffn::gelu);
    const std::vector<float> got = y.typed();
    const double margin = TestDevice::host_memory ? 1e-6 : 1e-30;  // the CPU's tail is right to so much, a GPU's to its digits
    for (std::size_t i = 0; i < gate.size(); ++i) {
      INFO("gelu(" << gate[i] << ")");
      const double x = gate[i];
      CHECK(static_cast<double>(got[i]) == Approx(x * cdf(x)).epsilon(1e-5).margin(margin));
    }
  });
}
