// Samples: GLM-130B's rows token for token, and recipes that cut nothing off.
// SPDX-License-Identifier: Apache-2.0
#include "golem/data/blank_infilling.hpp"

#include <map>
#include <numeric>
#include <string>

#include "catch.hpp"
#include "data/small_corpus.hpp"

using namespace golem;
using test::hash, test::special;

namespace {

std::vector<std::int32_t> counted(int length, int first) {
  std::vector<std::int32_t> row(static_cast<std::size_t>(length));
  std::iota(row.begin(), row.end(), first);
  return row;
}

struct Expected {
  std::uint64_t row;
  std::vector<int> divisions;
  int targets;
  const char *tokens, *labels, *positions;
};

}  // namespace

TEST_CASE("GLM-130B's rows are the original's, token for token") {  // vectors: spec 2.8
  const Expected expected[]{{0, {291}, 1710, "acda43e8ad0c9560", "1f7be4d20f6903c5", "cc76b029564c7257"},
                            {1, {195}, 1806, "19878df50960434d", "354f9ca4d6bcff29", "cc76b029564c7257"},
                            {2, {369, 448, 451, 446}, 269, "370ff6773b991662", "07a6d25bf96d566c", "04b97df596a86204"},
                            {12345, {442, 448, 443, 451}, 264, "590f912823e6439f", "8ff1e4b305874298", "4e8ca00a4bb128e9"}};
  BlankInfilling infilling(glm_130b_recipe, glm_130b_tokens);
  const std::vector<std::int32_t> source = counted(2000, 20100);
  for (const Expected& e : expected) {
    Sample sample;
    infilling.make(sample, source, e.row);
    INFO("row " << e.row);
    REQUIRE(sample.tokens.size() == 2048);
    CHECK(hash(sample.tokens) == e.tokens);
    CHECK(hash(sample.labels) == e.labels);
    CHECK(hash(sample.positions) == e.positions);
    CHECK(std::accumulate(sample.scored.begin(), sample.scored.end(), 0) == e.targets);
    REQUIRE(sample.windows.size() == e.divisions.size());
    for (std::size_t w = 0; w < e.divisions.size(); ++w) CHECK(sample.windows[w].prefix == e.divisions[w]);
  }
}

TEST_CASE("three thousand of GLM-130B's rows, all that is in them") {  // by tests/golden/make_rows.py
  BlankInfilling infilling(glm_130b_recipe, glm_130b_tokens);
  const std::vector<std::int32_t> source = counted(2000, 20100);
  Sha256 digest;
  Sample sample;
  for (std::uint64_t row = 0; row < 3000; ++row) {
    infilling.make(sample, source, row);
    const std::vector<std::int32_t> scored(sample.scored.begin(), sample.scored.end());
    std::vector<std::int32_t> divisions;
    for (const Window& window : sample.windows) divisions.push_back(window.prefix);
    for (const auto& part : {sample.tokens, sample.labels, scored, sample.positions, divisions}) digest.update(part.data(), part.size() * sizeof(std::int32_t));
  }
  CHECK(digest.hex() == "e62af49ad50c131d22817bf8781785ef8f904ac6474b3d3e6f76c8348e2d98a9");
}

TEST_CASE("Python's random numbers") {
  PythonRandom zero(0);
  CHECK(zero.uniform() == 0.8444218515250481);
  CHECK(zero.uniform() == 0.7579544029403025);
  CHECK(PythonRandom(0).below(std::uint64_t{1} << 32) == 3626764237u);  // inner seeds of spec 2.8
  CHECK(PythonRandom(1).below(std::uint64_t{1} << 32) == 3280387012u);
  CHECK(PythonRandom(2).below(std::uint64_t{1} << 32) == 242886303u);
  CHECK(PythonRandom(12345).below(std::uint64_t{1} << 32) == 831769172u);
  CHECK(PythonRandom((std::uint64_t{1} << 40) + 7).uniform() == 0.6137037779936511);  // random.Random(2**40 + 7).random()
}

TEST_CASE("a sample of any recipe holds its whole text, and each target belongs to its blank") {
  const auto [span_mean, mask_ratio] = GENERATE(std::pair(3.0, 0.15), std::pair(1.0, 0.25), std::pair(0.5, 0.4), std::pair(10.0, 0.3));
  for (const int context : {16, 31, 64, 100, 256, 512, 1023, 1025, 2048}) {
    const BlankRecipe r = recipe(context, span_mean, mask_ratio);
    BlankInfilling infilling(r, special);
    const std::vector<std::int32_t> source = counted(r.row, 10);
    int blanks = 0;
    double masked = 0, seen = 0;
    for (std::uint64_t seed = 0; seed < 300; ++seed) {
      Sample s;
      infilling.make(s, source, seed);
      REQUIRE(s.tokens.size() == static_cast<std::size_t>(context));
      REQUIRE(s.labels.size() == s.tokens.size());
      for (const std::int32_t p : s.positions) REQUIRE((p >= 0 && p < context));
      if (s.task == Task::generation) {
        const int division = s.windows[0].prefix - 1;
        REQUIRE(s.tokens[static_cast<std::size_t>(division)] == special.gmask);
        std::vector<std::int32_t> text(s.tokens.begin(), s.tokens.begin() + division);
        for (std::size_t i = 0; i < s.labels.size(); ++i)
          if (s.scored[i]) text.push_back(s.labels[i]);
        REQUIRE(text == source);
        REQUIRE(r.row - division >= static_cast<int>(0.2 * r.row));
        REQUIRE(std::accumulate(s.scored.begin(), s.scored.end(), 0) == r.row - division);
        REQUIRE(s.scored.back() == 1);  // the context is full
        continue;
      }
      ++blanks;
      int end_before = 0;
      for (const Window& window : s.windows) {
        // Answers by the position of their blank, each [sop ... ] -> [... eop].
        std::map<int, std::vector<std::int32_t>> answers;
        for (int i = window.begin + window.prefix; i < window.end; ++i) {
          const auto at = static_cast<std::size_t>(i);
          if (!s.scored[at]) continue;
          auto& answer = answers[s.positions[at]];
          REQUIRE(s.tokens[at] == (answer.empty() ? special.sop : answer.back()));
          answer.push_back(s.labels[at]);
        }
        std::vector<std::int32_t> text;
        bool after_blank = false;
        for (int i = 0; i < window.prefix; ++i) {
          const std::int32_t token = s.tokens[static_cast<std::size_t>(window.begin + i)];
          REQUIRE(s.positions[static_cast<std::size_t>(window.begin + i)] == i);
          if (token != special.mask) {
            text.push_back(token), after_blank = false;
            continue;
          }
          REQUIRE_FALSE(after_blank);  // a token between any two spans
          after_blank = true;
          REQUIRE(answers.contains(i));
          REQUIRE(answers[i].back() == special.eop);
          text.insert(text.end(), answers[i].begin(), answers[i].end() - 1);
          masked += static_cast<double>(answers[i].size()) - 1;
        }
        REQUIRE(window.begin == end_before);
        end_before = window.end;
        const int w = window.begin / r.window(), begin = text.front() - source.front();  // nothing cut off, all from one stretch
        REQUIRE((begin >= w * r.stretch() && begin + r.piece <= (w + 1) * r.stretch()));
        REQUIRE(text == counted(static_cast<int>(text.size()), text.front()));
        REQUIRE_FALSE(answers.empty());
        seen += static_cast<double>(text.size());
      }
      REQUIRE(end_before == context);
    }
    INFO("context " << context << ", spans of " << span_mean << " over " << mask_ratio);
    CHECK(std::abs(blanks / 300.0 - 0.3) < 0.1);
    if (context >= 256) CHECK(std::abs(masked / seen - mask_ratio - 0.005) < 0.03);
  }
  CHECK_THROWS_WITH(recipe(8), Catch::Matchers::Contains("at least 16"));
  for (const double wrong : {0.0, -1.0, 39.0, std::nan("")}) CHECK_THROWS_WITH(recipe(256, wrong), Catch::Matchers::Contains("above 0 and below 39"));
  for (const double wrong : {0.0, -1.0, 1.0, std::nan("")}) CHECK_THROWS_WITH(recipe(256, 3, wrong), Catch::Matchers::Contains("the part between 0 and 1"));
}

TEST_CASE("a source of another length is refused") {
  BlankInfilling infilling(glm_130b_recipe, glm_130b_tokens);
  Sample sample;
  CHECK_THROWS_WITH(infilling.make(sample, counted(1999, 0), 0), Catch::Matchers::Contains("rows of 2000"));
}

TEST_CASE("the pieces of [MASK] windows move through their stretch, so that no token of a row is left out for ever") {
  const BlankRecipe r = recipe(64);
  BlankInfilling infilling(r, {.mask = 1, .gmask = 2, .smask = 3, .sop = 4, .eop = 5, .eos = 6, .newline = 7, .pad = 0});
  const std::vector<std::int32_t> source = counted(r.row, 10);
  bool first = false, last = false;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Sample s;
    infilling.make(s, source, seed);
    if (s.task != Task::blank) continue;
    for (std::size_t i = 0; i < s.tokens.size(); ++i) {
      first = first || s.labels[i] == source.front();
      last = last || s.labels[i] == source.back();
    }
  }
  CHECK(first);
  CHECK(last);
}

TEST_CASE("a [gMASK] sample scores the end of each document that it generates") {
  const BlankRecipe r = recipe(64);
  BlankInfilling infilling(r, special);
  std::vector<std::int32_t> source = counted(r.row, 10);
  source.back() = special.eos;
  int generated = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Sample s;
    infilling.make(s, source, seed);
    if (s.task != Task::generation) continue;
    ++generated;
    CHECK(s.labels.back() == special.eos);
    CHECK(s.scored.back() == 1);
  }
  CHECK(generated > 5);
}

TEST_CASE("spans that are too many or too long for a window give way, and every sample has something to predict") {
  const std::vector<std::int32_t> source = counted(255, 100);
  const auto try_all = [&](auto change) {
    BlankRecipe r = recipe(256);
    change(r);
    BlankInfilling infilling(r, glm_130b_tokens);
    Sample sample;
    for (std::uint64_t seed = 0; seed < 400; ++seed) {
      infilling.make(sample, source, seed);
      REQUIRE(sample.tokens.size() == 256);
      REQUIRE(std::accumulate(sample.scored.begin(), sample.scored.end(), 0) > 0);
      const auto is_mask = [&](std::size_t i) { return sample.tokens[i] == glm_130b_tokens.mask; };
      for (std::size_t i = 1; i < 256; ++i) REQUIRE_FALSE((is_mask(i) && is_mask(i - 1)));  // a token between any two spans
    }
  };
  try_all([](BlankRecipe& r) { r.min_generation = 0, r.generation = 1; });
  try_all([](BlankRecipe& r) { r.max_spans = 0, r.mask_ratio = 0.9, r.piece = 128, r.generation = 0; });
  try_all([](BlankRecipe& r) { r.span_mean = 38, r.short_window = 1, r.generation = 0; });
}

TEST_CASE("a recipe that cannot be followed is refused by the field to change") {
  const auto refused = [](auto change) {
    BlankRecipe r = recipe(256);
    change(r);
    try {
      BlankInfilling infilling(r, glm_130b_tokens);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  using Catch::Matchers::Contains;
  CHECK(refused([](BlankRecipe&) {}) == "accepted");
  CHECK_THAT(refused([](BlankRecipe& r) { r.row = r.context; }), Contains("BlankRecipe::row"));
  CHECK_THAT(refused([](BlankRecipe& r) { r.windows = 0; }), Contains("BlankRecipe::windows"));
  CHECK_THAT(refused([](BlankRecipe& r) { r.piece = r.row + 1; }), Contains("BlankRecipe::piece"));
  CHECK_THAT(refused([](BlankRecipe& r) { r.max_spans += 1; }), Contains("max_spans"));
  CHECK_THAT(refused([](BlankRecipe& r) { r.shortest_window = r.piece; }), Contains("BlankRecipe::shortest_window"));
  CHECK_THAT(refused([](BlankRecipe& r) { r.generation = 1.5; }), Contains("probabilities"));
  CHECK_THAT(refused([](BlankRecipe& r) { r.mask_ratio = 0; }), Contains("mask_ratio"));
  CHECK_THAT(refused([](BlankRecipe& r) { r.span_mean = 40; }), Contains("span_mean"));
}
