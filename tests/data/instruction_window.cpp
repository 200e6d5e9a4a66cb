// Windows of instructions: the original's, token for token, and what gives way when a pair is too long.
// SPDX-License-Identifier: Apache-2.0
#include "golem/data/instruction_window.hpp"

#include <numeric>
#include <string>
#include <vector>

#include "catch.hpp"
#include "data/small_corpus.hpp"

using namespace golem;
using test::hash, test::special, test::Tokens;

// Expected: tests/golden/make_rows.py, with pair i of (37 i mod 700) + 1 and 91 i mod 600 tokens.
TEST_CASE("a row of four instructions is the original's, token for token") {
  struct Expected {
    std::vector<int> pairs, prefixes;
    int targets;
    const char *tokens, *labels;
  };
  const Expected expected[]{{{22, 37, 19, 45}, {116, 144, 5, 129}, 1461, "35f4a1ecab1b6c1c", "2c10890b18ea8564"},
                            {{13, 41, 9, 18}, {129, 119, 292, 129}, 1118, "abb5fc0326cb5665", "0ae74a61679b5cc3"},
                            {{0, 15, 39, 49}, {2, 346, 45, 252}, 894, "9ac785e103d3e369", "9a789de0d31d893d"},
                            {{16, 46, 29, 1}, {255, 129, 272, 39}, 972, "5a3d747e963af3a7", "37f0ff8c33d55321"}};
  for (const Expected& e : expected) {
    Sample sample;
    for (std::size_t w = 0; w < 4; ++w) {
      const int i = e.pairs[w];
      Tokens text, target;
      for (int j = 0; j < 37 * i % 700 + 1; ++j) text.push_back(20100 + (i * 1000 + j) % 100000);
      for (int j = 0; j < 91 * i % 600; ++j) target.push_back(30100 + (i * 777 + j) % 100000);
      add_instruction_window(sample, text, target, 512 * (static_cast<int>(w) + 1), glm_130b_tokens);
      CHECK(sample.windows.back() == Window{512 * static_cast<std::int32_t>(w), 512 * static_cast<std::int32_t>(w) + 512, e.prefixes[w]});
    }
    CHECK(hash(sample.tokens) == e.tokens);
    CHECK(hash(sample.labels) == e.labels);
    CHECK(hash(sample.positions) == "487aa99a7d53ce8b");  // 0 .. 511, four times
    CHECK(std::accumulate(sample.scored.begin(), sample.scored.end(), 0) == e.targets);
  }
}

TEST_CASE("a short pair: the text is read, the target and its end are predicted") {
  Sample sample;
  add_instruction_window(sample, Tokens{10, 11}, Tokens{20, 21}, 9, special);
  CHECK(sample.tokens == Tokens{10, 11, 1, 4, 20, 21, 0, 0, 0});
  CHECK(sample.labels == Tokens{10, 11, 1, 20, 21, 5, 0, 0, 0});
  CHECK(sample.positions == Tokens{0, 1, 2, 3, 4, 5, 6, 7, 8});
  CHECK(sample.scored == std::vector<std::uint8_t>{0, 0, 0, 1, 1, 1, 0, 0, 0});
  CHECK(sample.windows == std::vector<Window>{{0, 9, 3}});
}

TEST_CASE("windows of any size are filled to their end and no further, and always end a target in eop") {
  for (int window = 3; window < 40; ++window)
    for (int text = 0; text < 45; text += 4)
      for (int target = 0; target < 45; target += 5) {
        Sample sample;
        sample.read(9, 0);
        add_instruction_window(sample, Tokens(static_cast<std::size_t>(text), 10), Tokens(static_cast<std::size_t>(target), 20), window + 1, special);
        REQUIRE(sample.size() == static_cast<std::size_t>(window) + 1);
        std::int32_t last = -1;
        for (std::size_t i = 0; i < sample.size(); ++i)
          if (sample.scored[i]) last = sample.labels[i];
        REQUIRE(last == special.eop);
        const int kept = std::accumulate(sample.scored.begin(), sample.scored.end(), 0) - 1, read = sample.windows[0].prefix - 1;
        REQUIRE(kept + read == std::min(text + target, window - 2));
        if (text + target > window - 2) REQUIRE(read == std::min(text, std::max(window / 4, window - 2 - target)));
      }
  Sample sample;
  CHECK_THROWS_WITH(add_instruction_window(sample, Tokens{}, Tokens{}, 2, special), Catch::Matchers::Contains("at least 3"));
}
