// AdamW, sums of squares and conversion against a plain double loop, for every type that a model computes in.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <limits>

#include "ops/numbers.hpp"

using namespace ops;

TEMPLATE_TEST_CASE("AdamW, sums of squares and conversion over flat segments", "", float, bfloat16, float16) {
  using T = TestType;
  constexpr std::int64_t size = 40001;
  Numbers<float> gradient(size, 1, 0.1), start(size, 2), m0(size, 3, 0.01), v0(size, 4, 0.01);
  for (float& v : v0.typed) v = std::abs(v);
  const AdamwStep step{.learning_rate = 0.01, .decay = 0.1, .correction1 = 0.19, .correction2 = 0.0975, .gradient_scale = 0.5};
  on_each_isa([&](cpu::Device& device) {
    Numbers<float> w = start, m = m0, v = v0;
    Numbers<T> compute(size);
    adamw(device, AdamwTensors<float, T>{w.vector(), m.vector(), v.vector(), compute.vector(), gradient.vector()}, step);
    double squares = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const double g = 0.5 * gradient.exact[i], mi = 0.9 * m0.exact[i] + 0.1 * g, vi = 0.95 * static_cast<double>(v0.typed[i]) + 0.05 * g * g;
      const double want = start.exact[i] - 0.01 * (mi / 0.19 / (std::sqrt(vi / 0.0975) + 1e-8) + 0.1 * start.exact[i]);
      squares += gradient.exact[i] * gradient.exact[i];
      REQUIRE(w.typed[i] == Approx(want).epsilon(1e-5).margin(1e-6));
      REQUIRE(compute.typed[i] == T(w.typed[i]));
    }
    CHECK(sum_of_squares(device, View<const float, 1>(gradient.vector())) == Approx(squares).epsilon(1e-6));
    Numbers<T> converted(size);
    convert(device, converted.vector(), w.vector());
    CHECK(converted.typed == compute.typed);
  });
  gradient.typed[7] = std::numeric_limits<float>::infinity();
  cpu::Device device({.threads = 1});
  CHECK(std::isinf(sum_of_squares(device, View<const float, 1>(gradient.vector()))));
}

TEST_CASE("gradients of 16 bits move weights as the same numbers in 32 do") {
  const std::int64_t size = 1001;
  Numbers<float> w(size, 1), wide(size, 2);
  Numbers<float16> narrow(size);
  for (std::size_t i = 0; i < static_cast<std::size_t>(size); ++i) narrow.typed[i] = float16(wide.typed[i]), wide.typed[i] = static_cast<float>(narrow.typed[i]);
  Numbers<float> w2 = w, m(size), v(size), m2(size), v2(size);
  cpu::Device device({.threads = 2});
  const AdamwStep step{.learning_rate = 0.1, .correction1 = 0.1, .correction2 = 0.05, .gradient_scale = 0.5};
  adamw(device, AdamwTensors<float, float>{w.vector(), m.vector(), v.vector(), {}, wide.vector()}, step);
  adamw(device, AdamwTensors<float, float, float16>{w2.vector(), m2.vector(), v2.vector(), {}, narrow.vector()}, step);
  CHECK(w.typed == w2.typed);
  CHECK(sum_of_squares(device, View<const float16, 1>(narrow.vector())) == sum_of_squares(device, View<const float, 1>(wide.vector())));
}

TEST_CASE("add rounds once, to the type of the sum") {
  const std::int64_t size = 777;
  Numbers<float> more(size, 3);
  Numbers<float16> sum(size, 4);
  const std::vector<float16> before(sum.typed.begin(), sum.typed.end());
  cpu::Device device({.threads = 2});
  add(device, sum.vector(), more.vector());
  for (std::size_t i = 0; i < before.size(); ++i) REQUIRE(sum.typed[i] == float16(static_cast<float>(before[i]) + more.typed[i]));
}
