// Embedding rows and their gradient against a plain double loop, also for tokens that lie elsewhere.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <vector>

#include "ops/numbers.hpp"

using namespace ops;

TEMPLATE_TEST_CASE("embedding rows and their gradient, with tokens of other shards", "", float, double, bfloat16, float16) {
  using T = TestType;
  using A = accumulate_t<T>;
  Numbers<T> table(7 * columns, 1), dx(rows * columns, 2);
  const std::vector<std::int32_t> tokens{10, 16, 10, 9, 17};
  const View<const std::int32_t, 1> t{tokens.data(), rows};
  on_each_isa([&](cpu::Device& device) {
    Numbers<T> x(rows * columns);
    std::vector<A> d(7 * columns, A(1));
    embed(device, x.matrix(rows), table.matrix(7), t, 10);
    embed_backward(device, View<A, 2>{d.data(), 7, columns}, dx.matrix(rows), t, 10, 0.5);
    std::vector<double> want(static_cast<std::size_t>(rows * columns)), want_d(7 * columns, 1.0);
    for (std::size_t n = 0; n < rows; ++n)
      for (std::size_t i = 0; i < columns && tokens[n] >= 10 && tokens[n] < 17; ++i) {
        want[n * columns + i] = table.exact[static_cast<std::size_t>(tokens[n] - 10) * columns + i];
        want_d[static_cast<std::size_t>(tokens[n] - 10) * columns + i] += 0.5 * dx.exact[n * columns + i];
      }
    CHECK(difference(x.typed, want) == "");
    CHECK(difference(d, want_d) == "");
  });
}
