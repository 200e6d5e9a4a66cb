// The order of GLM-130B's data: the original's split and draws, number for number.
// SPDX-License-Identifier: Apache-2.0
#include "golem/data/glm_130b_order.hpp"

#include <set>

#include "catch.hpp"

using namespace golem;

TEST_CASE("numpy's permutation, and the rows that GLM-130B held out") {  // vectors: spec 2.8
  const auto order = NumpyGenerator(1130).permutation(10000);
  CHECK(std::vector<std::int32_t>(order.begin(), order.begin() + 6) == std::vector<std::int32_t>{6965, 1083, 4720, 9677, 1020, 7318});

  using Part = Glm130bRows::Part;
  const Glm130bRows training(Part::training), validation(Part::validation), test(Part::test);
  const std::int64_t held_out[]{127, 2520, 2523, 5102, 5514, 5836, 6847, 6924, 7785, 9000};
  for (std::int64_t i = 0; i < 10; ++i) {
    CHECK(test.row(i) == held_out[i]);
    CHECK(test.row(i + 30) == 30000 + held_out[i]);
  }
  std::set<std::int64_t> rows;
  for (std::int64_t i = 0; i < 9490; ++i) rows.insert(training.row(i));
  for (std::int64_t i = 0; i < 500; ++i) rows.insert(validation.row(i));
  for (std::int64_t i = 0; i < 10; ++i) rows.insert(test.row(i));
  CHECK(rows.size() == 10000);
  CHECK(*rows.rbegin() == 9999);
  CHECK(training.row(9490) == 10000 + training.row(0));
  CHECK_THROWS_WITH(test.row(-1), Catch::Matchers::Contains("the first is 0"));
}

TEST_CASE("the items of GLM-130B's samples") {  // vectors: spec 2.8
  const std::int64_t expected[]{90319446, 62861349, 67935102, 103031277};
  for (std::int64_t i = 0; i < 4; ++i) CHECK(glm_130b_item(i, 110000000) == expected[i]);
  CHECK(glm_130b_item(5, 1) == 0);
  for (const std::int64_t n : {std::int64_t{2}, std::int64_t{1} << 32, (std::int64_t{1} << 32) + 5, std::int64_t{1} << 40}) {
    std::int64_t largest = 0;
    for (std::int64_t i = 0; i < 50; ++i) {
      const std::int64_t item = glm_130b_item(i, n);
      REQUIRE((item >= 0 && item < n));
      largest = std::max(largest, item);
    }
    CHECK(largest >= n / 2);
  }
  CHECK(glm_130b_item(0, 110000000, glm_130b_order_key(1)) != expected[0]);
  CHECK(glm_130b_order_key(1) == 3280387012u);  // random.Random(1).randint(0, 2**32 - 1)
  CHECK_THROWS_WITH(glm_130b_item(0, 0), Catch::Matchers::Contains("at least 1"));
}
