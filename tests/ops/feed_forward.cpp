// GeGLU and GeLU against erfc in double: odd sizes, every element type and instruction set.
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
  for (const Ffn kind : {Ffn::geglu, Ffn::gelu}) {
    const std::int64_t wide = kind == Ffn::geglu ? 2 * columns : columns;
    Numbers<T> u(rows * wide, 1, 2), dy(rows * columns, 2);
    on_each_isa([&](cpu::Device& device) {
      Numbers<T> y(rows * columns), du(rows * wide);
      activate(device, y.matrix(rows), u.matrix(rows), kind);
      activate_backward(device, du.matrix(rows), dy.matrix(rows), u.matrix(rows), kind);
      std::vector<double> want(static_cast<std::size_t>(rows * columns)), want_du(static_cast<std::size_t>(rows * wide));
      for (std::int64_t n = 0; n < rows; ++n)
        for (std::int64_t i = 0; i < columns; ++i) {
          const auto at = static_cast<std::size_t>(n * columns + i), first = static_cast<std::size_t>(n * wide + i), gate = kind == Ffn::geglu ? first + columns : first;
          const double x = u.exact[gate], linear = kind == Ffn::geglu ? u.exact[first] : 1;
          want[at] = linear * x * cdf(x);
          if (kind == Ffn::geglu) want_du[first] = dy.exact[at] * x * cdf(x);
          want_du[gate] = dy.exact[at] * linear * (cdf(x) + x * density(x));
        }
      CHECK(difference(y.typed, want) == "");
    CHECK(difference(du.typed, want_du) == "");
    });
  }
}
