// What samples are made of: the original's draws number for number, and golem's own even mixture.
// SPDX-License-Identifier: Apache-2.0
#include "golem/data/sample_order.hpp"

#include <set>
#include <vector>

#include "catch.hpp"

using namespace golem;

namespace {

using Kind = SampleOrigin::Kind;
using Part = Glm130bRows::Part;

SampleOrder original(std::int64_t instructions, std::int64_t former = 0, InstructionMix mix = {}) {
  return {RowOrder::glm_130b, 1234, Part::training, {.rows = 10000, .instructions = instructions, .former = former, .windows = 4}, mix};
}

SampleOrder own(std::int64_t rows, std::int64_t instructions, InstructionMix mix = {}) {
  return {RowOrder::shuffled, 1234, Part::training, {.rows = rows, .instructions = instructions}, mix};
}

}  // namespace

// The expected numbers of the next four tests come from tests/golden/make_rows.py.
TEST_CASE("the original mixes rows of text and of instructions by one draw") {
  const Glm130bRows rows(Part::training);
  SampleOrder order = original(53);
  const std::int64_t text[]{6593, 2840, 7038, 8685};
  for (std::int64_t s = 0; s < 4; ++s) {
    CHECK(order.origin(s).kind == Kind::text);
    CHECK(order.origin(s).row == rows.row(text[s]));
  }
  const std::int64_t instructions[][2]{{12, 174}, {42, 39}, {50, 412}, {59, 496}, {67, 143}, {99, 61}};
  for (const auto& [sample, row] : instructions) {
    CHECK(order.origin(sample).kind == Kind::instructions);
    CHECK(order.origin(sample).row == row);
  }
  int count = 0;
  for (std::int64_t s = 0; s < 2000; ++s) count += order.origin(s).kind == Kind::instructions;
  CHECK(count == 105);
  order.reseed(99);  // the lever data_shuffle_seed
  CHECK(order.origin(0).row == rows.row(3090));
  CHECK(order.origin(6).row == 198);
  CHECK(order.origin(20).row == 329);
}

TEST_CASE("few instructions come again and again, until they are their part of the rows") {
  const SampleOrder order = original(2);  // 100 rows, for 499 places
  const std::int64_t instructions[][2]{{12, 74}, {42, 39}, {50, 12}, {59, 96}, {67, 43}, {99, 61}};
  for (const auto& [sample, row] : instructions) {
    CHECK(order.origin(sample).kind == Kind::instructions);
    CHECK(order.origin(sample).row == row);
  }
}

TEST_CASE("the pairs of an original row of instructions are drawn one by one") {
  const SampleOrder order = original(53);
  const std::int64_t first[]{22, 37, 19, 45}, far[]{16, 46, 29, 1};
  for (std::int64_t w = 0; w < 4; ++w) {
    CHECK(order.pair(w, 53) == first[w]);
    CHECK(order.pair(4 * 500 + w, 53) == far[w]);
  }
}

TEST_CASE("along the original's ramp a new set of instructions takes the place of the former one, or of text") {
  CHECK(glm_130b_chance(0) == 0.6772791305461007);
  CHECK(glm_130b_chance(12345) == 0.21885373527965302);
  const InstructionMix mix{.from = 500, .ramp = 1000};
  const SampleOrder replaced = original(53, 17, mix);
  const std::pair<std::int64_t, bool> of_new[]{{903, false}, {931, true}, {932, true}, {944, true}, {956, true}, {964, false}, {984, false}, {995, true}};
  for (const auto& [sample, is_new] : of_new) CHECK(replaced.origin(sample).kind == (is_new ? Kind::instructions : Kind::former_instructions));
  CHECK(replaced.origin(903).row == 366);
  const SampleOrder added = original(53, 0, mix);
  int instructions = 0;
  for (std::int64_t s = 0; s < 2000; ++s) {
    instructions += added.origin(s).kind == Kind::instructions;
    if (s < 500) CHECK(added.origin(s).kind == Kind::text);
  }
  CHECK(instructions == 56);
  CHECK(added.origin(534).row == Glm130bRows(Part::training).row(455));  // a row of instructions that the ramp left out
}

TEST_CASE("fewer instructions than a row of them takes fill one row") {
  const SampleOrder order{RowOrder::glm_130b, 1234, Part::training, {.rows = 10000, .instructions = 1, .windows = 400}, {}};
  int instructions = 0;
  for (std::int64_t s = 0; s < 2000; ++s)
    if (const SampleOrigin origin = order.origin(s); origin.kind == Kind::instructions) {
      CHECK(origin.row == 0);
      ++instructions;
    }
  CHECK(instructions > 50);
}

TEST_CASE("the original's split of a corpus, whatever its size") {
  for (const std::int64_t rows : {1, 128, 3000, 9999, 10000, 10001, 25003}) {
    std::set<std::int64_t> seen;
    std::int64_t all = 0;
    for (const Part part : {Part::training, Part::validation, Part::test}) {
      const Glm130bRows split(part);
      all += split.size(rows);
      for (std::int64_t i = 0; i < split.size(rows); ++i) {
        REQUIRE(split.row(i) < rows);
        seen.insert(split.row(i));
      }
      CHECK(split.row(split.size(rows)) >= rows);
    }
    CHECK(all == rows);
    CHECK(static_cast<std::int64_t>(seen.size()) == rows);
  }
  const SampleOrder none(RowOrder::glm_130b, 1, Part::test, {.rows = 100}, {});
  CHECK(none.text_items() == 0);
  CHECK_THROWS_WITH(none.origin(0), Catch::Matchers::Contains("give more text"));
}

TEST_CASE("golem's own instructions come evenly, and take no row of text from an epoch") {
  const SampleOrder order = own(19, 7), alone = own(19, 0);
  std::set<std::int64_t> rows;
  std::int64_t next = 0, text = 0;
  for (std::int64_t s = 0; s < 400; ++s) {
    const SampleOrigin origin = order.origin(s);
    if (origin.kind == Kind::instructions) {
      CHECK(origin.row == next++);
      CHECK(s % 20 == 19);
      continue;
    }
    CHECK(origin.row == alone.origin(text).row);
    CHECK(origin.epoch == text / 19);
    ++text;
    if (s < 20) rows.insert(origin.row);
  }
  CHECK(next == 20);
  CHECK(rows.size() == 19);
  std::set<std::int64_t> pairs;
  for (std::int64_t i = 0; i < 7; ++i) pairs.insert(order.pair(i, 7));
  CHECK(pairs.size() == 7);
  bool moved = false;
  for (std::int64_t i = 0; i < 7; ++i) moved = moved || order.pair(i, 7) != order.pair(i + 7, 7);
  CHECK(moved);  // another order in the next epoch
}

TEST_CASE("their part grows along the ramp, from the sample that they begin at") {
  const SampleOrder order = own(50, 7, {.part = 0.1, .from = 1000, .ramp = 2000});
  const auto count = [&](std::int64_t begin, std::int64_t end) {
    int instructions = 0;
    for (std::int64_t s = begin; s < end; ++s) instructions += order.origin(s).kind == Kind::instructions;
    return instructions;
  };
  CHECK(count(0, 1000) == 0);
  CHECK(count(1000, 2000) == 25);  // a quarter of 0.1 on average
  CHECK(count(2000, 3000) == 75);
  CHECK(count(3000, 5000) == 200);
  CHECK_THROWS_WITH(own(50, 7, {.part = 0}), Catch::Matchers::Contains("above 0"));
  CHECK_THROWS_WITH(SampleOrder(RowOrder::shuffled, 1, Part::training, {.rows = 9, .instructions = 3, .former = 2}, {}), Catch::Matchers::Contains("original's order"));
}
