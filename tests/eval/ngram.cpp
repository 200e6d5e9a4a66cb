// The trigram model against a calculation by hand, and its sums.
// SPDX-License-Identifier: Apache-2.0
#include "golem/eval/ngram.hpp"

#include "catch.hpp"
#include "golem/core/random.hpp"

using namespace golem;

TEST_CASE("probabilities add up to 1 in every context, seen or not") {
  std::vector<std::vector<std::int32_t>> documents(3);
  for (std::size_t d = 0; d < 3; ++d)
    for (std::uint64_t i = 0; i < 400; ++i) documents[d].push_back(static_cast<std::int32_t>(Random{1, d}.below(i, 5) * Random{2, d}.below(i, 5)));
  const Trigram model(20, 19, documents);
  for (int a = 0; a < 20; ++a)
    for (int b = 0; b < 20; ++b) {
      double sum = 0;
      for (int c = 0; c < 20; ++c) {
        const double p = model.probability(a, b, c);
        REQUIRE(p > 0);
        sum += p;
      }
      REQUIRE(sum == Approx(1).epsilon(1e-12));
    }
}

TEST_CASE("a tiny corpus, by hand") {
  // Tokens 0 1 2 0 1 3 behind start tokens 4 4, vocabulary 5.
  const std::vector<std::vector<std::int32_t>> documents{{0, 1, 2, 0, 1, 3}};
  const Trigram model(5, 4, documents);
  // Every trigram occurs once: 440 401 012 120 201 013. n1 = 6, n2 = 0: y = 1, D1 = 1 - 2*1*0/6 = 1, out of (0, 1): 0.5.
  // Bigrams by distinct contexts: 40:1 01:2 12:1 20:1 13:1, so n1 = 4, n2 = 1: y = 4/6, D1 = 1 - 2*(2/3)*1/4 = 2/3, D2 = 2 - 3*(2/3)*0/1 = 2, out of (0, 2): 1.
  // Unigrams by distinct contexts: 0:2 1:1 2:1 3:1, n1 = 3, n2 = 1: y = 3/5, D1 = 1 - 2*0.6*1/3 = 0.6, D2 = 2 - 3*0.6*0 = 2 -> 1.
  const double p1_2 = (1 - 0.6 + (3 * 0.6 + 1 * 1.0) / 5) / 5;          // token 2 among 5 contexts, freed mass spread over V = 5
  const double p2_2 = (1 - 2.0 / 3 + 2 * (2.0 / 3) * p1_2) / 2;         // context 1: followers 2 and 3, one each
  const double p3_2 = (1 - 0.5 + 2 * 0.5 * p2_2) / 2;                   // context 0 1: followers 2 and 3, once each
  CHECK(model.probability(0, 1, 2) == Approx(p3_2).epsilon(1e-12));
  CHECK(model.probability(3, 3, 2) == Approx(p1_2).epsilon(1e-12));     // context never seen: down to unigrams
  CHECK(model.bits(std::vector<std::int32_t>{0}) == Approx(-std::log2(model.probability(4, 4, 0))));
}

TEST_CASE("both sides decide which candidate fills a blank") {
  std::vector<std::vector<std::int32_t>> documents;
  for (int i = 0; i < 20; ++i) documents.push_back({1, 2, 3, 4, 5}), documents.push_back({1, 2, 6, 7, 8});
  const Trigram model(10, 9, documents);
  const std::vector<std::vector<std::int32_t>> candidates{{0}, {6}, {3}, {3, 4}};
  CHECK(model.best_fill(std::vector<std::int32_t>{1, 2}, std::vector<std::int32_t>{4, 5}, candidates) == 2);
  CHECK(model.best_fill(std::vector<std::int32_t>{1, 2}, std::vector<std::int32_t>{7, 8}, candidates) == 1);
  CHECK(model.best_fill(std::vector<std::int32_t>{1, 2}, std::vector<std::int32_t>{5}, candidates) == 3);
}
