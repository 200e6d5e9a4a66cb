// Rotary positions against sines and cosines in double: odd and even sizes, every element type, on every device.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <vector>

#include "ops/numbers.hpp"

using namespace ops;

TEMPLATE_TEST_CASE("rotation turns pairs, and its backward turns them back", "", float, double, bfloat16, float16) {
  using T = TestType;
  using A = accumulate_t<T>;
  constexpr std::int64_t heads = 2;
  for (const std::int64_t dim : {22, 128, 24}) {
    const std::int64_t parts = dim == 24 ? 5 : 3;  // three queries to a key and a value; and one
    const Numbers<T> original(rows * heads * parts * dim, 1);
    std::vector<A> cos, sin;
    for (int p = 0; p < 9; ++p)
      for (int i = 0; i < dim / 2; ++i) cos.push_back(static_cast<A>(std::cos(p * 0.1 * i))), sin.push_back(static_cast<A>(std::sin(p * 0.1 * i)));
    const std::vector<std::int32_t> positions{0, 8, 3, 3, 5};
    on_each_device([&](TestDevice& device) {
      const Tensor<T> x(device, original);
      const Tensor<A> cos_(device, cos), sin_(device, sin);
      const Tensor<std::int32_t> at(device, positions);
      rotate(device, x.view(rows, heads, parts, dim), cos_.matrix(9), sin_.matrix(9), at.vector());
      std::vector<double> want = original.exact;
      for (std::int64_t n = 0; n < rows; ++n)
        for (std::int64_t part = 0; part < heads * parts; ++part)
          for (std::int64_t j = 0; j < dim / 2 && part % parts != parts - 1; ++j) {
            double &first = want[static_cast<std::size_t>((n * heads * parts + part) * dim + j)], &second = (&first)[dim / 2];
            const double angle = positions[static_cast<std::size_t>(n)] * 0.1 * static_cast<double>(j), a = first, b = second;
            first = a * std::cos(angle) - b * std::sin(angle), second = b * std::cos(angle) + a * std::sin(angle);
          }
      CHECK(difference(x, want, 2) == "");
      rotate_backward(device, x.view(rows, heads, parts, dim), cos_.matrix(9), sin_.matrix(9), at.vector());
      CHECK(difference(x, original.exact, 4) == "");
    });
  }
}
