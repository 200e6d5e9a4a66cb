// Dropout against the random bits that it says it uses.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <utility>

#include "ops/numbers.hpp"

using namespace ops;

TEMPLATE_TEST_CASE("dropout keeps what its random halves say, scales it, and is the same in the backward", "", float, bfloat16) {
  using T = TestType;
  for (const std::int64_t size : {1, 7, 8, 5000, 5004}) {
    const Numbers<T> x(size, 1);
    const Random random{5, 6};
    on_each_device([&](TestDevice& device) {
      const Tensor<T> y(device, x);
      drop(device, y.matrix(1), y.matrix(1), 0.25, random, 0);
      const std::vector<T> got = y.typed();
      int kept = 0;
      for (std::int64_t i = 0; i < size; ++i) {
        const std::uint32_t half = random.bits(static_cast<std::uint64_t>(i) / 8).word[i % 8 / 2] >> (16 * (i % 2)) & 0xffff;
        kept += half >= 16384;
        const auto at = static_cast<std::size_t>(i);
        if (got[at] != T(half >= 16384 ? static_cast<float>(x.typed[at]) * (1 / 0.75f) : 0.0f)) FAIL("element " << i << " is " << static_cast<float>(got[at]));
      }
      if (size >= 5000) CHECK(std::abs(kept / 5000.0 - 0.75) < 0.03);
    });
  }
}

TEST_CASE("parts of what is dropped lose what the whole would") {
  const std::int64_t size = 9001;
  const Numbers<float> x(size, 1);
  on_each_device([&](TestDevice& device) {
    const Tensor<float> from(device, x), whole(device, size), parts(device, size);
    drop(device, whole.matrix(1), from.matrix(1), 0.25, Random{5, 6}, 0);
    for (const auto& [first, count] : {std::pair<std::int64_t, std::int64_t>{0, 3}, {3, 4094}, {4097, 1}, {4098, 4902}, {9000, 1}})
      drop(device, View<float, 2>{parts.vector().data + first, 1, count}, View<const float, 2>{from.vector().data + first, 1, count}, 0.25, Random{5, 6}, first);
    CHECK(parts.typed() == whole.typed());
  });
}
