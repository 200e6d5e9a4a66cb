// Model configurations: the rules, the derived numbers, and the one-line description.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/model.hpp"

#include "catch.hpp"
#include "golem/config/describe.hpp"
#include "golem/config/presets.hpp"

using namespace golem;

TEST_CASE("each broken rule is told by its sentence") {
  const ModelConfig sound = glm_tiny::config;
  CHECK(broken_rule(sound) == nullptr);
  const auto sentence_of = [&](auto change) { return std::string(broken_rule(sound.with(change))); };
  CHECK(sentence_of([](auto& c) { c.layers = 0; }) == "golem: ModelConfig::layers must be at least 1");
  CHECK(sentence_of([](auto& c) { c.heads = 5; }) == "golem: ModelConfig::heads must divide ModelConfig::hidden");
  CHECK(sentence_of([](auto& c) { c.hidden = 12, c.heads = 4; }) == "golem: ModelConfig::hidden / heads must be even, since rotary positions turn pairs");
  CHECK(sentence_of([](auto& c) { c.vocab = 1; }) == "golem: ModelConfig::vocab must be at least 2");
  CHECK(sentence_of([](auto& c) { c.dropout = 1; }) == "golem: ModelConfig::dropout must be in [0, 1)");
}

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
