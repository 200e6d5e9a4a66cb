// Words: their borders in tokens, and blanks that are stretched to them.
// SPDX-License-Identifier: Apache-2.0
#include "golem/data/words.hpp"

#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "catch.hpp"
#include "golem/data/blank_infilling.hpp"

using namespace golem;

TEST_CASE("a word goes on behind letters and behind its own space") {
  enum : std::int32_t { special, space, the, pack, age, comma, han, han_comma, digit, byte, dash };
  const std::vector<std::string> texts{"", " ", " the", " pack", "age", ",", "软件", "，", "42", "\xef\xbf\xbd", " -"};
  const Words words{std::span(texts)};
  CHECK(words.continues(pack, age));
  CHECK(words.continues(age, digit));
  CHECK(words.continues(space, age));
  CHECK(words.continues(space, comma));
  CHECK(words.continues(space, han));
  CHECK(words.continues(byte, byte));
  CHECK_FALSE(words.continues(the, pack));
  CHECK_FALSE(words.continues(the, space));
  CHECK_FALSE(words.continues(space, space));
  CHECK_FALSE(words.continues(age, comma));
  CHECK_FALSE(words.continues(comma, age));
  CHECK_FALSE(words.continues(dash, age));
  CHECK_FALSE(words.continues(han, han));
  CHECK_FALSE(words.continues(han, age));
  CHECK_FALSE(words.continues(age, han));
  CHECK_FALSE(words.continues(han, han_comma));
  CHECK_FALSE(words.continues(special, age));
  CHECK_FALSE(words.continues(space, special));
  CHECK_FALSE(words.continues(99, age));
  CHECK_FALSE(Words().continues(pack, age));
}

TEST_CASE("blanks of whole words: no span begins or ends within one, and the text is whole") {
  // Tokens 10 .. 19 begin words of three tokens, 20 .. 39 go on with them.
  std::vector<std::string> texts(40);
  for (int i = 10; i < 40; ++i) texts[static_cast<std::size_t>(i)] = i < 20 ? " a" : "b";
  const SpecialTokens special{.mask = 0, .gmask = 1, .smask = 2, .sop = 3, .eop = 4, .eos = 5, .newline = 6, .pad = 7};
  BlankRecipe r = recipe(256);
  r.generation = 0;
  std::vector<std::int32_t> source(static_cast<std::size_t>(r.row));
  for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::int32_t>((i % 3 + 1) * 10 + i % 10);
  const Words words{std::span(texts)};
  BlankInfilling whole(r, special, words), any(r, special);
  std::size_t broken = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    for (BlankInfilling* infilling : {&whole, &any}) {
      Sample sample;
      infilling->make(sample, source, seed);
      REQUIRE(sample.tokens.size() == 256);
      const auto prefix = static_cast<std::size_t>(sample.windows[0].prefix);
      std::size_t masks = 0, answers = 0;
      for (std::size_t i = 0; i < prefix; ++i) masks += sample.tokens[i] == special.mask;
      std::vector<std::int32_t> answer;
      for (std::size_t i = prefix; i < 256 && sample.scored[i]; ++i) {
        if (sample.labels[i] != special.eop) {
          answer.push_back(sample.labels[i]);
          continue;
        }
        ++answers;
        REQUIRE_FALSE(answer.empty());
        // The blank's neighbours in the text, by the position that its answer has.
        const auto place = static_cast<std::size_t>(sample.positions[i]);
        REQUIRE(sample.tokens[place] == special.mask);
        const std::int32_t before = place > 0 ? sample.tokens[place - 1] : special.pad, behind = place + 1 < prefix ? sample.tokens[place + 1] : special.pad;
        REQUIRE(before != special.mask);
        REQUIRE(behind != special.mask);
        const bool is_whole = !words.continues(before, answer.front()) && !words.continues(answer.back(), behind);
        if (infilling == &whole) REQUIRE(is_whole);
        broken += !is_whole;
        answer.clear();
      }
      REQUIRE(answers == masks);
      REQUIRE(masks > 0);
    }
  }
  CHECK(broken > 1000);  // without words most blanks begin or end within one
}
