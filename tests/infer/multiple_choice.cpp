// Packed choices: tokens, positions and windows by spec 7.2, scores by spec 7.3, and what is refused.
// SPDX-License-Identifier: Apache-2.0
#include "golem/infer/multiple_choice.hpp"

#include <vector>

#include "catch.hpp"
#include "golem/golem.hpp"
#include "infer/random_weights.hpp"

using namespace golem;
using tests::special;

namespace {

using Ids = std::vector<std::int32_t>;

}  // namespace

TEST_CASE("choices share the text, have the mask's position, and see no other choice") {
  const PackedChoices packed = pack_choices({5, special.mask, 6}, {{7, 8}, {9}}, special.mask, special);
  CHECK(packed.batch.tokens == Ids{5, 30, 6, 33, 7, 33});
  CHECK(packed.batch.positions == Ids{0, 1, 2, 1, 1, 1});
  CHECK(packed.batch.targets == Ids{-1, -1, -1, 7, 8, 9});
  CHECK(packed.batch.windows == std::vector<Window>{{0, 3, 3, 0, 0}, {3, 5, 0, 0, 3}, {5, 6, 0, 0, 3}});
  CHECK(packed.batch.first_window == Ids{0, 3});
  CHECK(packed.ends == Ids{2, 3});
}

TEST_CASE("a mask that is not in the text is appended; behind [gMASK] positions go on in each choice") {
  const PackedChoices packed = pack_choices({5, 6}, {{7, 8}, {9, 4, 3}}, special.gmask, special);
  CHECK(packed.batch.tokens == Ids{5, 6, 31, 33, 7, 33, 9, 4});
  CHECK(packed.batch.positions == Ids{0, 1, 2, 3, 4, 3, 4, 5});
  CHECK(packed.batch.windows.back() == Window{5, 8, 0, 0, 3});
}

TEST_CASE("the score of a choice is the sum of its log-probabilities, in the type that is asked for") {
  const std::vector<float> losses{1.0001f, 2.5f, 0.3001f};
  CHECK(choice_scores<float>(losses, {2, 3}) == std::vector<float>{-1.0001f - 2.5f, -0.3001f});
  CHECK(choice_scores<float16>(losses, {2, 3}) == std::vector<float>{-3.5f, static_cast<float>(float16(-0.3001f))});
}

TEST_CASE("a question without choices, a choice without tokens, and a context behind its window are refused") {
  using Catch::Matchers::Contains;
  CHECK_THROWS_WITH(pack_choices({1, 2}, {}, special.mask, special), Contains("give at least one"));
  CHECK_THROWS_WITH(pack_choices({1, 2}, {{3}, {}}, special.mask, special), Contains("choice 1"));
  cpu::Device device({.threads = 1});
  RowsOnDevice<cpu::Device> rows;
  Batch batch = pack_choices({1, 2}, {{3}}, special.mask, special).batch;
  rows.upload(device, batch, glm_tiny::config);
  batch.windows.back().context_end = 4;
  CHECK_THROWS_WITH(rows.upload(device, batch, glm_tiny::config), Contains("a context lies before its window"));
}
