// Model configurations: the rules, the derived numbers, and the one-line description.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/model.hpp"

#include "catch.hpp"
#include "golem/config/describe.hpp"
#include "golem/config/presets.hpp"

using namespace golem;

TEST_CASE("derived numbers follow the norm and the feed-forward") {
  const ModelConfig c = glm_tiny::config;
  CHECK(c.alpha() == Approx(2.0));
  CHECK(c.with([](auto& x) { x.norm = Norm::pre; }).alpha() == 1);
  CHECK(c.ffn_rows() == 2 * c.ffn);
  CHECK(c.with([](auto& x) { x.ffn_kind = Ffn::gelu; }).ffn_rows() == c.ffn);
}

TEST_CASE("descriptions tell models apart, and not what does not matter to a checkpoint") {
  const ModelConfig c = glm_tiny::config;
  CHECK(describe(c) == describe(c.with([](auto& x) { x.dropout = 0.1, x.context = 4096; })));
  CHECK(describe(c) != describe(c.with([](auto& x) { x.norm = Norm::pre; })));
  CHECK(describe(c) != describe(c.with([](auto& x) { x.hidden = 128; })));
  CHECK_THAT(describe(c), Catch::Matchers::Contains("layers 2, hidden 64"));
}
