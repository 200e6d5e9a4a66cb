// Cross entropy over a shard of the vocabulary against a plain double loop, also for targets that lie elsewhere; and rows that are moved.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <vector>

#include "ops/numbers.hpp"

using namespace ops;

TEMPLATE_TEST_CASE("cross entropy over a shard: statistics, losses and gradients", "", float, double, bfloat16) {
  using T = TestType;
  using A = accumulate_t<T>;
  constexpr std::int64_t first = 100;
  for (const std::int64_t width : {37, 1160}) {
    const auto w = static_cast<std::size_t>(width);
    Numbers<A> logits(rows * width, 1, 3);
    const std::vector<std::int32_t> targets{100, 136, 99, 120, static_cast<std::int32_t>(first + width)};  // the third and the last are not here
    const std::vector<A> weights{A(0.5), A(1), A(2), A(0.25), A(3)};
    on_each_device([&](TestDevice& device) {
      const Tensor<A> logits_(device, logits), max(device, rows), sum(device, rows), picked(device, rows), losses(device, rows), weights_(device, weights);
      const Tensor<std::int32_t> t(device, targets);
      const Tensor<T> d(device, rows * width);
      logit_statistics(device, max.vector(), sum.vector(), picked.vector(), logits_.matrix(rows), t.vector(), first);
      token_losses(device, losses.vector(), max.vector(), sum.vector(), picked.vector());
      logit_gradient(device, d.matrix(rows), logits_.matrix(rows), t.vector(), max.vector(), sum.vector(), weights_.vector(), first);
      std::vector<double> want, want_losses;
      for (std::size_t n = 0; n < rows; ++n) {
        double total = 0;
        for (std::size_t v = 0; v < w; ++v) total += std::exp(logits.exact[n * w + v]);
        const std::int64_t target = targets[n] - first;
        const bool here = target >= 0 && target < width;
        want_losses.push_back(std::log(total) - (here ? logits.exact[n * w + static_cast<std::size_t>(target)] : 0));
        for (std::int64_t v = 0; v < width; ++v)
          want.push_back(static_cast<double>(weights[n]) * (std::exp(logits.exact[n * w + static_cast<std::size_t>(v)]) / total - (here && v == target ? 1 : 0)));
      }
      CHECK(difference(losses, want_losses) == "");
      CHECK(difference(d, want) == "");
      if constexpr (std::is_same_v<T, A>) {  // over the logits themselves
        logit_gradient(device, logits_.matrix(rows), logits_.matrix(rows), t.vector(), max.vector(), sum.vector(), weights_.vector(), first);
        CHECK(difference(logits_, want) == "");
      }
    });
  }
}

TEST_CASE("sums relative to two maxima join") {
  on_each_device([](TestDevice& device) {
    const Tensor<float> sum(device, {2.0f, 3.0f}), own(device, {1.0f, -2.0f}), max(device, {1.0f, 0.5f});
    rescale_sums(device, sum.vector(), own.vector(), max.vector());
    CHECK(difference(sum, {2, 3 * std::exp(-2.5)}) == "");
  });
}

TEMPLATE_TEST_CASE("rows are gathered, scattered and scaled", "", float, bfloat16) {
  using T = TestType;
  for (const std::int64_t width : {37, 64}) {
    const Numbers<T> x(rows * width, 1);
    const Numbers<accumulate_t<T>> wide_x(2 * width, 2);
    const auto w = static_cast<std::size_t>(width);
    on_each_device([&](TestDevice& device) {
      const Tensor<T> x_(device, x), some(device, 2 * width), scaled(device, 2 * width), back(device, std::vector<T>(rows * w, T(9.0f)));
      const Tensor<accumulate_t<T>> wide_(device, wide_x), weights(device, {2.0f, -0.5f});
      const Tensor<std::int32_t> which(device, {1, 4});
      gather_rows(device, some.matrix(2), x_.matrix(rows), which.vector());
      scatter_rows(device, back.matrix(rows), some.matrix(2), which.vector());
      scale_rows(device, scaled.matrix(2), wide_.matrix(2), weights.vector());
      std::vector<double> want_some, want_scaled, want_back;
      for (std::size_t i = 0; i < 2 * w; ++i) {
        want_some.push_back(x.exact[i < w ? w + i : 3 * w + i]);
        want_scaled.push_back((i < w ? 2 : -0.5) * wide_x.exact[i]);
      }
      for (std::size_t i = 0; i < rows * w; ++i) want_back.push_back(i / w == 1 || i / w == 4 ? x.exact[i] : 0);
      CHECK(difference(some, want_some, 0) == "");
      CHECK(difference(back, want_back, 0) == "");
      CHECK(difference(scaled, want_scaled) == "");
    });
  }
}
