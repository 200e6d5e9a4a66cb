// Cross entropy over a shard of the vocabulary against a plain double loop, also for targets that lie elsewhere.
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
  Numbers<A> logits(rows * columns, 1, 3);
  const std::vector<std::int32_t> targets{100, 136, 99, 120, 137};  // the third and the last are not here
  const std::vector<A> weights{A(0.5), A(1), A(2), A(0.25), A(3)};
  on_each_isa([&](cpu::Device& device) {
    std::vector<A> max(rows), sum(rows), picked(rows), losses(rows);
    Numbers<T> d(rows * columns);
    const View<A, 1> m{max.data(), rows}, s{sum.data(), rows}, p{picked.data(), rows};
    const View<const std::int32_t, 1> t{targets.data(), rows};
    logit_statistics(device, m, s, p, logits.matrix(rows), t, first);
    token_losses(device, View<A, 1>{losses.data(), rows}, m, s, p);
    logit_gradient(device, d.matrix(rows), logits.matrix(rows), t, m, s, View<const A, 1>{weights.data(), rows}, first);
    std::vector<double> want, want_losses;
    for (std::size_t n = 0; n < rows; ++n) {
      double total = 0;
      for (std::size_t v = 0; v < columns; ++v) total += std::exp(logits.exact[n * columns + v]);
      const std::int64_t target = targets[n] - first;
      const bool here = target >= 0 && target < columns;
      want_losses.push_back(std::log(total) - (here ? logits.exact[n * columns + static_cast<std::size_t>(target)] : 0));
      for (std::int64_t v = 0; v < columns; ++v)
        want.push_back(static_cast<double>(weights[n]) * (std::exp(logits.exact[n * columns + static_cast<std::size_t>(v)]) / total - (here && v == target ? 1 : 0)));
    }
    CHECK(difference(losses, want_losses) == "");
    CHECK(difference(d.typed, want) == "");
  });
}
