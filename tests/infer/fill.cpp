// Filling blanks: each mask of a text once, whatever the answers hold.
// SPDX-License-Identifier: Apache-2.0
#include "golem/infer/fill.hpp"

#include <vector>

#include "catch.hpp"
#include "infer/table_engine.hpp"

using namespace golem;

namespace {

using Tokens = std::vector<std::int32_t>;

/// Answers what it was told, in turn, and remembers what it was asked.
struct ScriptedEngine {
  std::vector<Tokens> answers;
  std::vector<Prompt> asked = {};
  std::vector<std::uint64_t> numbers = {};
  int room = 100;  // of the cache
  std::vector<int> limits = {};

  int capacity() const { return room; }

  Tokens generate(const Prompt& prompt, const Sampling& sampling, const SpecialTokens&, function_ref<bool(std::int32_t)>) {
    require(asked.size() < 10, "a fill asks for an answer without end");
    numbers.push_back(sampling.answer);
    limits.push_back(sampling.max_tokens);
    asked.push_back(prompt);
    return answers[(asked.size() - 1) % answers.size()];
  }
};

}  // namespace

TEST_CASE("an answer that is a mask itself is text: each mask of the text is filled once, and by its own position") {
  ScriptedEngine engine{{{few_tokens.mask}, {10, few_tokens.mask, few_tokens.gmask}, {}}};
  const Filled filled = fill_blanks(engine, {4, few_tokens.mask, 5, few_tokens.mask, few_tokens.mask, 6, few_tokens.gmask}, greedy, few_tokens);
  CHECK(filled.answers == std::vector<Tokens>{{few_tokens.mask}, {10, few_tokens.mask, few_tokens.gmask}, {}});
  CHECK(filled.text == Tokens{4, few_tokens.mask, 5, 10, few_tokens.mask, few_tokens.gmask, 6, few_tokens.gmask});
  REQUIRE(engine.asked.size() == 3);
  CHECK(engine.asked[1].tokens == Tokens{4, few_tokens.mask, 5, few_tokens.mask, few_tokens.mask, 6, few_tokens.gmask, few_tokens.sop});
  CHECK(engine.asked[0].next_position == 1);
  CHECK(engine.asked[1].next_position == 3);
  CHECK(engine.asked[2].next_position == 6);
}

TEST_CASE("a continued text ends with its answer, though that holds masks of any kind") {
  for (const std::int32_t mask : {few_tokens.mask, few_tokens.smask, few_tokens.gmask}) {
    ScriptedEngine engine{{{9, mask}}};
    const Filled filled = fill_blanks(engine, {4, 5}, greedy, few_tokens);
    CHECK(filled.text == Tokens{4, 5, 9, mask});
    REQUIRE(engine.asked.size() == 1);
    CHECK(engine.asked[0].step == 1);
  }
  ScriptedEngine engine{{{9, few_tokens.mask}, {10}}};  // a [MASK] in an answer does not come before the next [gMASK]
  const Filled filled = fill_blanks(engine, {4, few_tokens.gmask, 5, few_tokens.gmask}, greedy, few_tokens);
  CHECK(filled.text == Tokens{4, 9, few_tokens.mask, 5, 10});
  REQUIRE(engine.asked.size() == 2);
  CHECK(engine.asked[1].step == 1);
}

TEST_CASE("the same holds for beams that hold masks") {
  TableEngine engine(3, 80, 11);
  const std::int32_t others[]{3, 4, 5, 6, 7, 8, 9, 10};  // what is left to answer: masks
  const std::vector<Filled> filled = fill_blanks(engine, {4, few_tokens.mask, 5, few_tokens.mask, 6}, BeamSearchOptions{.beams = 3, .max_tokens = 2, .invalid = others}, few_tokens);
  REQUIRE(filled.size() == 3);
  for (const Filled& one : filled) {
    REQUIRE(one.answers.size() == 2);
    Tokens whole{4};
    whole.insert(whole.end(), one.answers[0].begin(), one.answers[0].end());
    whole.push_back(5);
    whole.insert(whole.end(), one.answers[1].begin(), one.answers[1].end());
    whole.push_back(6);
    CHECK(one.text == whole);
  }
}

TEST_CASE("each blank is an answer of its own number, and draws its own tokens") {
  ScriptedEngine engine{{{9}}};
  fill_blanks(engine, {4, few_tokens.mask, 5, few_tokens.mask, few_tokens.mask}, Sampling{.answer = 7}, few_tokens);
  CHECK(engine.numbers == std::vector<std::uint64_t>{7, 8, 9});

  TableEngine beams(3, 80, 11);
  const BeamSearchOptions options{.beams = 1, .min_tokens = 6, .max_tokens = 6, .choice = BeamSearchOptions::Choice::sampled};
  const Tokens text{4, few_tokens.mask, 5, few_tokens.mask, 6};
  const std::vector<Filled> filled = fill_blanks(beams, text, options, few_tokens);
  BeamSearchOptions second = options;
  second.answer = 1;
  Tokens second_text = filled.front().answers[0];
  second_text.insert(second_text.begin(), 4);
  second_text.insert(second_text.end(), {5, few_tokens.mask, 6});
  const std::vector<Beam> expected = generate_beams(beams, make_prompt(second_text, few_tokens), second, few_tokens);
  REQUIRE(filled.size() == expected.size());
  for (std::size_t b = 0; b < filled.size(); ++b) CHECK(filled[b].answers[1] == expected[b].tokens);
  CHECK(generate_beams(beams, make_prompt(second_text, few_tokens), options, few_tokens).front().tokens != expected.front().tokens);  // of the first answer's numbers
}

TEST_CASE("an answer leaves the blanks behind it a place in the cache, and has what it asks for where there is room") {
  const Tokens text{4, few_tokens.mask, 5, few_tokens.mask, few_tokens.mask};
  ScriptedEngine roomy{{{9}}};
  fill_blanks(roomy, text, Sampling{.max_tokens = 94}, few_tokens);
  CHECK(roomy.limits == std::vector<int>{94, 94, 94});
  ScriptedEngine engine{{Tokens(6, 9), {9}, {9}}, {}, {}, 12};  // the prompt has 6 tokens
  fill_blanks(engine, text, Sampling{.max_tokens = 50}, few_tokens);
  CHECK(engine.limits == std::vector<int>{6, 1, 50});
  CHECK(engine.asked.back().tokens.size() == 11);
  ScriptedEngine full{{{9}}, {}, {}, 6};
  CHECK_THROWS_WITH(fill_blanks(full, text, Sampling{}, few_tokens), Catch::Matchers::Contains("a prompt of 6 tokens leaves no room to generate in 6"));

  TableEngine beams(3, 12, 11);
  const std::vector<Filled> filled = fill_blanks(beams, text, BeamSearchOptions{.beams = 3, .min_tokens = 100, .max_tokens = 100}, few_tokens);
  REQUIRE(filled.size() == 3);
  for (const Filled& one : filled) CHECK((one.answers.size() == 3 && one.answers[0].size() == 6 && one.answers[1].size() == 1 && one.answers[2].size() == 2));
}
