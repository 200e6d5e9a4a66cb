// Embedding rows and their gradient against a plain double loop, also for tokens that lie elsewhere.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <vector>

#include "ops/numbers.hpp"

using namespace ops;

TEMPLATE_TEST_CASE("embedding rows and their gradient, with tokens of other shards", "", float, double, bfloat16, float16) {
  using T = TestType;
  using A = accumulate_t<T>;
  for (const std::int64_t width : {37, 1096, 4104})
    for (const std::size_t count : {5u, 300u}) {
      std::vector<std::int32_t> tokens{10, 16, 10, 9, 17};
      while (tokens.size() < count) tokens.push_back(9 + static_cast<std::int32_t>(tokens.size() * tokens.size() % 9));
      const auto n = static_cast<std::int64_t>(count);
      const auto w = static_cast<std::size_t>(width);
      const Numbers<T> table(7 * width, 1), dx(n * width, 2);
      if (count > 100 && width > 100) continue;
      on_each_device([&](TestDevice& device) {
        const Tensor<T> table_(device, table), dx_(device, dx), x(device, n * width);
        const Tensor<std::int32_t> t(device, tokens);
        const Tensor<A> d(device, std::vector<A>(7 * w, A(1)));
        embed(device, x.matrix(n), table_.matrix(7), t.vector(), 10);
        embed_backward(device, d.matrix(7), dx_.matrix(n), t.vector(), 10, 0.5);
        std::vector<double> want(count * w), want_d(7 * w, 1.0);
        for (std::size_t i = 0; i < count; ++i)
          for (std::size_t c = 0; c < w && tokens[i] >= 10 && tokens[i] < 17; ++c) {
            want[i * w + c] = table.exact[static_cast<std::size_t>(tokens[i] - 10) * w + c];
            want_d[static_cast<std::size_t>(tokens[i] - 10) * w + c] += 0.5 * dx.exact[i * w + c];
          }
        CHECK(difference(x, want) == "");
        CHECK(difference(d, want_d, 8) == "");
      });
    }
}

TEST_CASE("gradients of one token are added in the order of the tokens") {
  on_each_device([&](TestDevice& device) {
    const Tensor<std::int32_t> tokens(device, {1, 0, 1, 1});
    const Tensor<float> dx(device, {1.0f, 5.0f, 1e8f, -1e8f}), d(device, {0.0f, 0.0f});
    embed_backward(device, d.matrix(2), dx.matrix(4), tokens.vector(), 0, 1.0);
    CHECK(d.typed() == std::vector<float>{5, 0});  // 1 + 1e8 is 1e8
  });
}
