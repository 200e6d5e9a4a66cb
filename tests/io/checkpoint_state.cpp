// state.json: exact numbers, and no altered text is believed.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/checkpoint_state.hpp"

#include <cmath>
#include <limits>

#include "catch.hpp"
#include "io/files.hpp"

using test::error_of, test::has;

namespace {

golem::CheckpointState example() {
  golem::CheckpointState state;
  state.step = 49300;
  state.model = "glm 70 layers";
  state.integers = {{"most", INT64_MAX}, {"least", INT64_MIN}, {"seed", 1234}, {"zero", 0}};
  state.reals = {
      {"tenth", 0.1}, {"tiny", 5e-324}, {"huge", 1.7976931348623157e308}, {"minus", -0.0}, {"infinite", -std::numeric_limits<double>::infinity()}};
  state.texts = {{"schedule", "cosine \"10\"\n\xe6\x99\xba"}, {"empty", ""}};
  state.files = {{"model-00001-of-00001.safetensors", {1234567890123456789u, std::string(64, 'a')}}};
  return state;
}

void check_equal(const golem::CheckpointState& a, const golem::CheckpointState& b) {
  REQUIRE(a.step == b.step);
  REQUIRE(a.model == b.model);
  REQUIRE(a.integers == b.integers);
  REQUIRE(a.reals == b.reals);
  REQUIRE(a.texts == b.texts);
  REQUIRE(a.files == b.files);
}

}  // namespace

TEST_CASE("state.json gives every number and text back exactly") {
  const auto state = example();
  const auto back = golem::parse_checkpoint_state(golem::format_checkpoint_state(state, "x"), "x");
  check_equal(state, back);
  CHECK(std::signbit(back.reals.at("minus")));
  auto odd = state;
  odd.reals = {{"nan", std::nan("")}};
  CHECK(std::isnan(golem::parse_checkpoint_state(golem::format_checkpoint_state(odd, "x"), "x").reals.at("nan")));
  odd.texts = {{"bytes", "\xff"}};
  CHECK(has(error_of([&] { golem::format_checkpoint_state(odd, "x"); }), "x: a text in it is no valid UTF-8"));
}

TEST_CASE("an altered state.json is refused") {
  const std::string text = golem::format_checkpoint_state(example(), "x");
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string out = text;
    out.replace(out.find(from), from.size(), to);
    return error_of([&] { golem::parse_checkpoint_state(out, "'state.json'"); });
  };
  CHECK(has(changed("49300", "49200"), "'state.json': it was altered after it was saved: expected digest"));
  CHECK(has(changed("golem checkpoint", "something"), "does not say"));
  CHECK(has(changed("\"version\": 1", "\"version\": 2"), "format version 2, this golem reads 1"));
  CHECK(has(changed("\"digest\"", "\"digests\""), "'digest' is missing"));
  CHECK(changed("\n  \"files\"", " \"files\"") == "no error");

  golem::CheckpointState state = example();
  state.files = {{"../../etc/passwd", {1, ""}}};
  CHECK(has(error_of([&] { golem::parse_checkpoint_state(golem::format_checkpoint_state(state, "x"), "x"); }), "no plain file name"));
}

TEST_CASE("a damaged state.json gives an error or the same state") {
  const auto state = example();
  const std::string text = golem::format_checkpoint_state(state, "x");
  test::Dice dice(7);
  int equal = 0;
  for (int i = 0; i < 5000; ++i) {
    const std::string damaged = test::mutated(text, dice);
    golem::CheckpointState back;
    if (error_of([&] { back = golem::parse_checkpoint_state(damaged, "x"); }) != "no error") continue;
    check_equal(state, back);
    ++equal;
  }
  CHECK(equal > 10);  // spaces that came or went
}
