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
  CHECK(c.qkv_rows() == 3 * c.hidden);
  CHECK(c.with([](auto& x) { x.kv_heads = 1; }).qkv_rows() == c.hidden + 2 * c.head_dim());
}

TEST_CASE("descriptions tell models apart, and not what does not matter to a checkpoint") {
  const ModelConfig c = glm_tiny::config;
  CHECK(describe(c) == describe(c.with([](auto& x) { x.dropout = 0.1, x.context = 4096; })));
  CHECK(describe(c) != describe(c.with([](auto& x) { x.norm = Norm::pre; })));
  CHECK(describe(c) != describe(c.with([](auto& x) { x.hidden = 128; })));
  CHECK_THAT(describe(c), Catch::Matchers::Contains("layers 2, hidden 64, heads 4, ffn 176"));
  CHECK(describe(c) == describe(c.with([](auto& x) { x.kv_heads = x.heads; })));
  CHECK_THAT(describe(c.with([](auto& x) { x.kv_heads = 2; })), Catch::Matchers::Contains("heads 4, key heads 2, ffn 176"));
}
