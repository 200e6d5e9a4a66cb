// NaN and infinity are found in every float type, wherever they are, aligned or not.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/finite.hpp"

#include <limits>
#include <vector>

#include "catch.hpp"

TEMPLATE_TEST_CASE("the first NaN or infinity is found", "", float, double, golem::bfloat16, golem::float16) {
  constexpr golem::DType type = golem::dtype_of<TestType>();
  const std::int64_t count = 9001;
  std::vector<std::byte> memory(count * sizeof(TestType) + 1);
  const auto put = [&](std::int64_t i, double value) {
    const TestType number(static_cast<TestType>(value));
    std::memcpy(memory.data() + 1 + i * sizeof number, &number, sizeof number);
  };
  const auto first = [&] { return golem::first_not_finite(type, memory.data() + 1, count * sizeof(TestType)); };
  for (std::int64_t i = 0; i < count; ++i) put(i, i % 2 ? 65000 : -1e-7);
  CHECK(first() == -1);
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()})
    for (const std::int64_t i : {std::int64_t{0}, std::int64_t{4095}, std::int64_t{4096}, count - 1}) {
      put(i, bad);
      CHECK(first() == i);
      put(i, 0);
    }
  CHECK(golem::first_not_finite(golem::DType::i32, memory.data(), 4) == -1);
  CHECK(golem::first_not_finite(type, nullptr, 0) == -1);
}
