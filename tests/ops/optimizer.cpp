// AdamW, sums of squares and conversion against a plain double loop, for every type that a model computes in.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <limits>

#include "ops/numbers.hpp"

using namespace ops;

TEMPLATE_TEST_CASE("AdamW, sums of squares and conversion over flat segments", "", float, bfloat16, float16) {
  using T = TestType;
  const AdamwStep step{.learning_rate = 0.01, .decay = 0.1, .correction1 = 0.19, .correction2 = 0.0975, .gradient_scale = 0.5};
#if defined(GOLEM_TEST_GPU)
  const std::int64_t sizes[]{1, 20001, 40008, 20'000'003};  // and more than all threads of a GPU take at once
#else
  const std::int64_t sizes[]{1, 20001, 40008};
#endif
  for (const std::int64_t size : sizes) {
    Numbers<float> gradient(size, 1, 0.1), start(size, 2), m0(size, 3, 0.01), v0(size, 4, 0.01);
    for (float& v : v0.typed) v = std::abs(v);
    std::vector<float> infinite = gradient.typed;
    infinite[infinite.size() / 2] = std::numeric_limits<float>::infinity();
    on_each_device([&](TestDevice& device) {
      const Tensor<float> w(device, start), m(device, m0), v(device, v0), g(device, gradient), bad(device, infinite);
      const Tensor<T> compute(device, size), converted(device, size);
      adamw(device, AdamwTensors<float, T>{w.vector(), m.vector(), v.vector(), compute.vector(), g.vector()}, step);
      double squares = 0;
      const std::vector<float> weights = w.typed();
      const std::vector<T> rounded = compute.typed();
      for (std::size_t i = 0; i < weights.size(); ++i) {
        const double g = 0.5 * gradient.exact[i], mi = 0.9 * m0.exact[i] + 0.1 * g, vi = 0.95 * static_cast<double>(v0.typed[i]) + 0.05 * g * g;
        const double want = start.exact[i] - 0.01 * (mi / 0.19 / (std::sqrt(vi / 0.0975) + 1e-8) + 0.1 * start.exact[i]);
        squares += gradient.exact[i] * gradient.exact[i];
        if (!(std::abs(weights[i] - want) <= 1e-6 + 1e-5 * std::abs(want)) || rounded[i] != T(weights[i]))
          FAIL("element " << i << " is " << weights[i] << ", rounded " << static_cast<float>(rounded[i]) << ", and should be " << want);
      }
      CHECK(sum_of_squares(device, View<const float, 1>(g.vector())) == Approx(squares).epsilon(1e-6));
      CHECK(std::isinf(sum_of_squares(device, View<const float, 1>(bad.vector()))));
      const Tensor<double> sums(device, std::vector<double>(3, -1.0));  // one beside the other, and of nothing
      add_up_squares<float>(device, View<double, 1>(sums.vector().data, 1), g.vector());
      add_up_squares<float>(device, View<double, 1>(sums.vector().data + 1, 1), View<const float, 1>{});
      CHECK(sums.typed() == std::vector<double>{sum_of_squares(device, View<const float, 1>(g.vector())), 0, -1});
      convert(device, converted.vector(), w.vector());
      CHECK(converted.typed() == rounded);
    });
  }
}

TEST_CASE("gradients of 16 bits move weights as the same numbers in 32 do") {
  const std::int64_t size = 1001;
  const Numbers<float> start(size, 1);
  Numbers<float> wide(size, 2);
  Numbers<float16> narrow(size);
  for (std::size_t i = 0; i < static_cast<std::size_t>(size); ++i) narrow.typed[i] = float16(wide.typed[i]), wide.typed[i] = static_cast<float>(narrow.typed[i]);
  const AdamwStep step{.learning_rate = 0.1, .correction1 = 0.1, .correction2 = 0.05, .gradient_scale = 0.5};
  on_each_device([&](TestDevice& device) {
    const Tensor<float> a(device, start), b(device, start), g(device, wide), m(device, size), v(device, size), m2(device, size), v2(device, size);
    const Tensor<float16> h(device, narrow);
    adamw(device, AdamwTensors<float, float>{a.vector(), m.vector(), v.vector(), {}, g.vector()}, step);
    adamw(device, AdamwTensors<float, float, float16>{b.vector(), m2.vector(), v2.vector(), {}, h.vector()}, step);
    CHECK(a.typed() == b.typed());
    CHECK(sum_of_squares(device, View<const float16, 1>(h.vector())) == Approx(sum_of_squares(device, View<const float, 1>(g.vector()))).epsilon(1e-6));
  });
}

TEST_CASE("add rounds once, to the type of the sum") {
  const std::int64_t size = 777;
  const Numbers<float> more(size, 3);
  const Numbers<float16> before(size, 4);
  on_each_device([&](TestDevice& device) {
    const Tensor<float> from(device, more);
    const Tensor<float16> sum(device, before);
    add(device, sum.vector(), from.vector());
    const std::vector<float16> got = sum.typed();
    for (std::size_t i = 0; i < got.size(); ++i)
      if (got[i] != float16(static_cast<float>(before.typed[i]) + more.typed[i])) FAIL("element " << i << " is " << static_cast<float>(got[i]));
  });
}
