// Beam search over engines: slots of the cache follow their beams, and a real engine's logits are those of whole rows.
// SPDX-License-Identifier: Apache-2.0
#include "golem/infer/generate_beams.hpp"

#include <vector>

#include "catch.hpp"
#include "golem/infer/fill.hpp"
#include "infer/table_engine.hpp"

using namespace golem;

namespace {

using Tokens = std::vector<std::int32_t>;

/// The same search without a cache: the logits of each beam's whole sequence.
std::vector<Beam> without_cache(const Prompt& prompt, const BeamSearchOptions& options, int steps) {
  const std::int32_t ends[]{few_tokens.eop, few_tokens.eos};
  BeamSearch search(options, prompt.tokens, ends);
  for (int step = 0; step < steps && !search.done(); ++step) {
    std::vector<double> rows;
    for (const auto& beam : search.live()) {
      const std::vector<double> row = table_logits(beam.tokens, 11);
      rows.insert(rows.end(), row.begin(), row.end());
    }
    search.advance(View<const double, 2>(rows.data(), static_cast<std::int64_t>(search.live().size()), 11));
  }
  return search.finish();
}

}  // namespace

TEST_CASE("each beam sees its own past, in whatever slot it lies") {
  for (const int beams : {1, 2, 3, 5, 8})
    for (const auto choice : {BeamSearchOptions::Choice::best, BeamSearchOptions::Choice::sampled})
      for (std::int32_t start = 4; start < 10; ++start) {
        TableEngine engine(beams + start % 2, 40, 11);
        const BeamSearchOptions options{.beams = beams, .no_repeat_ngram = start % 3 ? 0 : 2, .min_tokens = 3, .max_tokens = 12, .choice = choice};
        const Prompt prompt = make_prompt({start, 5, few_tokens.mask, 6}, few_tokens);
        const std::vector<Beam> found = generate_beams(engine, prompt, options, few_tokens), expected = without_cache(prompt, options, 12);
        REQUIRE(found.size() == expected.size());
        for (std::size_t i = 0; i < found.size(); ++i) {
          REQUIRE(found[i].tokens == expected[i].tokens);
          REQUIRE(found[i].score == Approx(expected[i].score));
        }
        if (beams > 1) CHECK(engine.copied() > 0);
        else CHECK(engine.copied() == 0);
      }
}

TEST_CASE("a search ends at the end of the cache, and positions are the prompt's") {
  TableEngine engine(3, 12, 11);
  const Prompt prompt = make_prompt({4, 5, 6, 9, 10}, few_tokens);  // 7 with [gMASK] and sop
  const std::vector<Beam> found = generate_beams(engine, prompt, {.beams = 3, .min_tokens = 100, .max_tokens = 100}, few_tokens);
  REQUIRE(found.size() == 3);
  for (const Beam& beam : found) CHECK(beam.tokens.size() == 6);  // the last token needs no place in the cache
  CHECK(engine.last_positions() == Tokens{11});
  const std::vector<Beam> at_mask = generate_beams(engine, make_prompt({4, few_tokens.mask, 6}, few_tokens), {.beams = 2, .min_tokens = 4, .max_tokens = 4}, few_tokens);
  CHECK(engine.last_positions() == Tokens{1});
  CHECK(at_mask.front().tokens.size() == 4);
  CHECK_THROWS_WITH(generate_beams(engine, prompt, {.beams = 4}, few_tokens), Catch::Matchers::Contains("EngineOptions::sequences"));
  CHECK_THROWS_WITH(generate_beams(engine, make_prompt(Tokens(12, 4), few_tokens), {.beams = 2}, few_tokens), Catch::Matchers::Contains("shorten the text"));
}

TEST_CASE("blanks are filled for each beam; the next blank sees the first beam's answer") {
  TableEngine engine(3, 60, 11);
  const BeamSearchOptions options{.beams = 3, .min_tokens = 1, .max_tokens = 4};
  const Tokens text{4, few_tokens.mask, 5, few_tokens.mask, 6, few_tokens.gmask};
  const std::vector<Filled> filled = fill_blanks(engine, text, options, few_tokens);
  const Tokens first = generate_beams(engine, make_prompt(text, few_tokens), options, few_tokens).front().tokens;
  Tokens second_text{4};
  second_text.insert(second_text.end(), first.begin(), first.end());
  second_text.insert(second_text.end(), {5, few_tokens.mask, 6, few_tokens.gmask});
  const std::vector<Beam> second = generate_beams(engine, make_prompt(second_text, few_tokens), options, few_tokens);
  REQUIRE(filled.size() == second.size());
  for (std::size_t b = 0; b < filled.size(); ++b) {
    REQUIRE(filled[b].answers.size() == 2);
    CHECK(filled[b].answers[0] == first);
    CHECK(filled[b].answers[1] == second[b].tokens);
    Tokens whole{4};
    whole.insert(whole.end(), first.begin(), first.end());
    whole.push_back(5);
    whole.insert(whole.end(), second[b].tokens.begin(), second[b].tokens.end());
    whole.insert(whole.end(), {6, few_tokens.gmask});
    CHECK(filled[b].text == whole);
  }
  CHECK(fill_blanks(engine, Tokens{4, 5}, options, few_tokens).front().answers.size() == 1);
  CHECK_THROWS_WITH(fill_blanks(engine, Tokens{}, options, few_tokens), Catch::Matchers::Contains("nothing to go on"));
}
