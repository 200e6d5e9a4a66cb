// Beam search against plain oracles: every sequence there is, and the original's steps with its tables; and draws without replacement.
// SPDX-License-Identifier: Apache-2.0
#include "golem/infer/beam_search.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <set>

#include "catch.hpp"
#include "infer/table_engine.hpp"

using namespace golem;

namespace {

using Tokens = std::vector<std::int32_t>;
constexpr std::int32_t ends[]{5, 6};  // of a vocabulary of 7

/// Logits behind any sequence: a function of its tokens.
std::vector<double> next_logits(const Tokens& tokens) { return table_logits(tokens, 7); }

std::vector<double> log_probabilities(const Tokens& tokens, const std::set<std::int32_t>& banned) {
  std::vector<double> scores = next_logits(tokens);
  for (const std::int32_t token : banned) scores[static_cast<std::size_t>(token)] = -65504;
  double sum = 0;
  for (const double x : scores) sum += std::exp(x);
  for (double& x : scores) x -= std::log(sum);
  return scores;
}

double penalized(double score, std::size_t length, double power) { return score / std::pow((5.0 + static_cast<double>(length)) / 6.0, power); }

bool is_end(std::int32_t token) { return token == ends[0] || token == ends[1]; }

std::vector<Beam> search(const BeamSearchOptions& options, const Tokens& context, int steps) {
  BeamSearch beams(options, context, ends);
  for (int step = 0; step < steps && !beams.done(); ++step) {
    std::vector<double> rows;
    for (const auto& beam : beams.live()) {
      const std::vector<double> row = next_logits(beam.tokens);
      rows.insert(rows.end(), row.begin(), row.end());
    }
    beams.advance(View<const double, 2>(rows.data(), static_cast<std::int64_t>(beams.live().size()), 7));
  }
  return beams.finish();
}

/// Every sequence of up to `steps` tokens, with its score.
void enumerate(const Tokens& tokens, double score, int steps, double power, std::size_t context, std::vector<Beam>& all) {
  if (steps == 0) {
    all.push_back({Tokens(tokens.begin() + static_cast<std::ptrdiff_t>(context), tokens.end()), penalized(score, tokens.size(), power), false});
    return;
  }
  const std::vector<double> next = log_probabilities(tokens, {});
  for (std::int32_t token = 0; token < 7; ++token) {
    Tokens longer = tokens;
    longer.push_back(token);
    const double sum = score + next[static_cast<std::size_t>(token)];
    if (is_end(token)) all.push_back({Tokens(tokens.begin() + static_cast<std::ptrdiff_t>(context), tokens.end()), penalized(sum, longer.size(), power), true});
    else enumerate(longer, sum, steps - 1, power, context, all);
  }
}

/// Spec 6.2 as it is written, with a table of n-grams for each beam.
std::vector<Beam> by_the_letter(const BeamSearchOptions& o, const Tokens& context, int steps) {
  struct State {
    Tokens tokens;
    double score = 0;
    std::map<Tokens, std::set<std::int32_t>> table;
  };
  struct Candidate {
    double score;
    std::size_t beam;
    std::int32_t token;
  };
  const auto nb = static_cast<std::size_t>(o.beams), n = static_cast<std::size_t>(o.no_repeat_ngram);
  std::vector<State> live{{context, 0, {}}};
  std::vector<std::pair<double, Beam>> ended;
  bool done = false;
  const auto end = [&](const Tokens& tokens, double score, bool by_token) {
    const double value = penalized(score, tokens.size(), o.length_penalty);
    std::size_t i = ended.size();
    while (i > 0 && !(value < ended[i - 1].first)) --i;
    Tokens generated(tokens.begin() + static_cast<std::ptrdiff_t>(context.size()), tokens.end() - by_token);
    ended.insert(ended.begin() + static_cast<std::ptrdiff_t>(i), {value, Beam{generated, value, by_token}});
    if (ended.size() > nb) ended.pop_back();
  };
  const auto prefix = [&](const Tokens& tokens) { return Tokens(tokens.end() - static_cast<std::ptrdiff_t>(n - 1), tokens.end()); };
  for (int step = 0; step < steps && !done && !live.empty(); ++step) {
    std::vector<Candidate> candidates;
    for (std::size_t b = 0; b < live.size(); ++b) {
      std::set<std::int32_t> banned(o.invalid.begin(), o.invalid.end());
      if (o.min_tokens > step) banned.insert(std::begin(ends), std::end(ends));
      if (n > 0 && live[b].tokens.size() > n)
        for (const std::int32_t token : live[b].table[prefix(live[b].tokens)]) banned.insert(token);
      const std::vector<double> next = log_probabilities(live[b].tokens, banned);
      for (std::int32_t token = 0; token < 7; ++token) candidates.push_back({live[b].score + next[static_cast<std::size_t>(token)], b, token});
    }
    std::stable_sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
    if (candidates.size() > 3 * nb) candidates.resize(3 * nb);
    std::vector<State> continued;
    for (const Candidate& c : candidates) {
      State child = live[c.beam];
      child.tokens.push_back(c.token);
      child.score = c.score;
      if (is_end(c.token)) {
        end(child.tokens, c.score, true);
      } else if (continued.size() < nb) {
        if (n > 0 && live[c.beam].tokens.size() >= n - 1) child.table[prefix(live[c.beam].tokens)].insert(c.token);
        continued.push_back(child);
      } else {
        break;
      }
    }
    live = continued;
    double best = -1e300;
    for (const State& s : live) best = std::max(best, s.score);
    if (ended.size() == nb && !live.empty()) done = ended.back().first >= penalized(best, live[0].tokens.size(), o.length_penalty);
  }
  if (!done)
    for (const State& s : live) end(s.tokens, s.score, false);
  std::vector<Beam> answers;
  for (const auto& [value, beam] : ended) answers.push_back(beam);
  return answers;
}

void require_equal(const std::vector<Beam>& found, const std::vector<Beam>& expected) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    REQUIRE(found[i].tokens == expected[i].tokens);
    REQUIRE(found[i].ended == expected[i].ended);
    REQUIRE(found[i].score == Approx(expected[i].score).epsilon(1e-12));
  }
}

}  // namespace

TEST_CASE("with a beam for every sequence the search finds the best there is, in order") {
  for (const double power : {0.0, 1.0, 2.5})
    for (int steps = 1; steps <= 3; ++steps) {
      std::vector<Beam> all;
      enumerate({1, 2}, 0, steps, power, 2, all);
      std::stable_sort(all.begin(), all.end(), [](const Beam& a, const Beam& b) { return a.score > b.score; });
      require_equal(search({.beams = 400, .length_penalty = power}, {1, 2}, steps), std::vector<Beam>(all.begin(), all.begin() + std::min<std::ptrdiff_t>(400, static_cast<std::ptrdiff_t>(all.size()))));
    }
}

TEST_CASE("few beams find what the original's steps find, whatever the options") {
  const std::int32_t invalid[]{0};
  int differ = 0;
  for (std::int32_t start = 0; start < 5; ++start)
    for (int beams = 1; beams <= 5; ++beams)
      for (const double power : {0.0, 1.0, -0.5})
        for (const int ngram : {0, 2, 3})
          for (const int least : {0, 4}) {
            BeamSearchOptions options{.beams = beams, .length_penalty = power, .no_repeat_ngram = ngram, .min_tokens = least};
            if (start == 4) options.invalid = invalid;
            const Tokens context{start, 1, 1, start};
            const std::vector<Beam> found = search(options, context, 9);
            require_equal(found, by_the_letter(options, context, 9));
            options.no_repeat_ngram = 0;
            if (ngram) differ += search(options, context, 9).front().tokens != found.front().tokens;
            for (const Beam& beam : found) {
              REQUIRE((beam.ended ? static_cast<int>(beam.tokens.size()) >= least : beam.tokens.size() == 9));
              if (start == 4) REQUIRE(std::count(beam.tokens.begin(), beam.tokens.end(), 0) == 0);
              for (std::size_t i = 0; ngram == 2 && i + 1 < beam.tokens.size(); ++i)
                for (std::size_t j = i + 1; j + 1 < beam.tokens.size(); ++j) REQUIRE_FALSE((beam.tokens[i] == beam.tokens[j] && beam.tokens[i + 1] == beam.tokens[j + 1]));
            }
          }
  CHECK(differ > 10);  // the ban mattered
}

TEST_CASE("of equal answers the later one comes first") {
  const std::vector<double> equal{1, 1, -50, -50, -50, -50, -50}, last{-50, -50, -50, -50, -50, 1, -50};
  BeamSearch beams({.beams = 2}, Tokens{4}, ends);
  beams.advance(View<const double, 2>(equal.data(), 1, 7));
  std::vector<double> rows = last;
  rows.insert(rows.end(), last.begin(), last.end());
  beams.advance(View<const double, 2>(rows.data(), 2, 7));
  const std::vector<Beam> answers = beams.finish();
  REQUIRE(answers.size() == 2);
  CHECK(answers[0].score == answers[1].score);
  CHECK(answers[0].tokens == Tokens{1});
  CHECK(answers[1].tokens == Tokens{0});
}

TEST_CASE("runs of the context may come again once: the table knows what was generated only") {
  const std::vector<double> logits{0, 9, 0, 0, 0, -50, -50};  // always token 1
  BeamSearch beams({.beams = 1, .no_repeat_ngram = 2}, Tokens{1, 1, 1}, ends);
  for (int step = 0; step < 2; ++step) beams.advance(View<const double, 2>(logits.data(), 1, 7));
  CHECK(beams.live()[0].tokens[3] == 1);
  CHECK(beams.live()[0].tokens[4] != 1);
}

TEST_CASE("without the ended beams, the live ones are returned") {
  const std::vector<Beam> live = search({.beams = 3, .consider_end = false}, {1, 2}, 4);
  REQUIRE(live.size() == 3);
  for (const Beam& beam : live) CHECK((!beam.ended && beam.tokens.size() <= 4));
}

TEST_CASE("sampled candidates are drawn without replacement, in proportion to their probability") {
  const Tokens context{1, 2};
  std::vector<double> p = log_probabilities(context, {});
  for (double& x : p) x = std::exp(x);
  // One beam and two end tokens: three candidates; the best of them that ends nothing goes on.
  std::map<std::int32_t, double> expected;
  for (std::size_t a = 0; a < 7; ++a)
    for (std::size_t b = 0; b < 7; ++b)
      for (std::size_t c = 0; c < 7; ++c) {
        if (a == b || b == c || a == c) continue;
        std::int32_t best = -1;
        for (const std::size_t token : {a, b, c})
          if (token < 5 && (best < 0 || p[token] > p[static_cast<std::size_t>(best)])) best = static_cast<std::int32_t>(token);
        expected[best] += p[a] * p[b] / (1 - p[a]) * p[c] / (1 - p[a] - p[b]);
      }
  const int n = 20000;
  std::map<std::int32_t, int> counts;
  const std::vector<double> logits = next_logits(context);
  for (int seed = 0; seed < n; ++seed) {
    BeamSearch beams({.beams = 1, .choice = BeamSearchOptions::Choice::sampled, .seed = static_cast<std::uint64_t>(seed)}, context, ends);
    beams.advance(View<const double, 2>(logits.data(), 1, 7));
    ++counts[beams.live()[0].tokens.back()];
  }
  for (const auto& [token, probability] : expected) CHECK(std::abs(counts[token] / static_cast<double>(n) - probability) < 5 * std::sqrt(probability * (1 - probability) / n) + 1e-9);
  const auto drawn = [&](std::uint64_t answer) { return search({.beams = 1, .choice = BeamSearchOptions::Choice::sampled, .seed = 3, .answer = answer}, context, 6).front().tokens; };
  CHECK(drawn(0) == drawn(0));
  std::set<Tokens> others;
  for (std::uint64_t answer = 0; answer < 20; ++answer) others.insert(drawn(answer));
  CHECK(others.size() > 1);
}

TEST_CASE("what is banned is never taken, however few are allowed: fewer beams go on, and a search that cannot ends") {
  const std::vector<double> logits{0, 1, 2, 3, 4, 5, 6};
  const std::int32_t all_but_two[]{0, 1, 2, 3, 6}, all[]{0, 1, 2, 3, 4, 5, 6};
  const auto advance = [&](BeamSearch& search) {
    std::vector<double> rows;
    for (std::size_t b = 0; b < search.live().size(); ++b) rows.insert(rows.end(), logits.begin(), logits.end());
    search.advance(View<const double, 2>(rows.data(), static_cast<std::int64_t>(search.live().size()), 7));
  };
  for (const auto choice : {BeamSearchOptions::Choice::best, BeamSearchOptions::Choice::sampled}) {
    BeamSearch few({.beams = 3, .choice = choice, .invalid = all_but_two}, Tokens{1}, ends);
    advance(few);
    REQUIRE(few.live().size() == 1);  // 5 ends, 4 goes on
    CHECK(few.live().front().tokens == Tokens{1, 4});
    const std::vector<Beam> answers = few.finish();
    REQUIRE(answers.size() == 2);
    CHECK((answers[0].tokens.empty() && answers[0].ended && answers[1].tokens == Tokens{4}));

    BeamSearch held({.beams = 3, .min_tokens = 2, .choice = choice, .invalid = all_but_two}, Tokens{1}, ends);
    for (int step = 0; step < 2; ++step) advance(held);
    CHECK(held.live().front().tokens == Tokens{1, 4, 4});  // 5 comes too early
    CHECK(held.live().size() == 1);

    BeamSearch repeated({.beams = 2, .no_repeat_ngram = 2, .min_tokens = 9, .choice = choice, .invalid = all_but_two}, Tokens{1, 1}, ends);
    for (int step = 0; step < 2; ++step) advance(repeated);
    CHECK_FALSE(repeated.done());
    advance(repeated);
    CHECK(repeated.done());  // 4 4 may not come twice, and 5 not yet
    REQUIRE(repeated.finish().size() == 1);
    CHECK(repeated.finish().front().tokens == Tokens{4, 4});
    CHECK_FALSE(repeated.finish().front().ended);

    BeamSearch none({.beams = 2, .choice = choice, .invalid = all}, Tokens{1}, ends);
    CHECK_THROWS_WITH(advance(none), Catch::Matchers::Contains("no token is left to take: all 7 are banned"));
  }
}

TEST_CASE("what cannot be searched is told") {
  CHECK_THROWS_WITH(BeamSearch({.beams = 0}, Tokens{1}, ends), Catch::Matchers::Contains("at least 1"));
  CHECK_THROWS_WITH(BeamSearch({.no_repeat_ngram = 1}, Tokens{1}, ends), Catch::Matchers::Contains("at least 2"));
  for (const double penalty : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
    CHECK_THROWS_WITH(BeamSearch({.length_penalty = penalty}, Tokens{1}, ends), Catch::Matchers::Contains("must be a finite number"));
  BeamSearch beams({}, Tokens{1}, ends);
  const std::vector<double> logits(14);
  CHECK_THROWS_WITH(beams.advance(View<const double, 2>(logits.data(), 2, 7)), Catch::Matchers::Contains("1 beams was given logits of 2"));
}

TEST_CASE("logits that are no numbers are refused, and the beam that has them is told") {
  for (const auto choice : {BeamSearchOptions::Choice::best, BeamSearchOptions::Choice::sampled})
    for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
      for (std::size_t at = 0; at < 7; ++at) {
        BeamSearch beams({.beams = 2, .choice = choice}, Tokens{1}, ends);
        std::vector<double> rows = next_logits({1});
        beams.advance(View<const double, 2>(rows.data(), 1, 7));
        REQUIRE(beams.live().size() == 2);
        rows.insert(rows.end(), rows.begin(), rows.begin() + 7);
        rows[7 + at] = bad;
        CHECK_THROWS_WITH(beams.advance(View<const double, 2>(rows.data(), 2, 7)), Catch::Matchers::Contains("the logits of beam 1 hold NaN or infinity"));
      }
}

TEST_CASE("tokens that a search never takes, and its end tokens, must be of the vocabulary") {
  const std::vector<double> row = next_logits({1});
  for (const std::int32_t token : {-1, 7, 150000}) {
    const std::int32_t outside[]{token};
    BeamSearch invalid({.beams = 2, .invalid = outside}, Tokens{1}, ends), ended({.beams = 2, .min_tokens = 1}, Tokens{1}, outside);
    CHECK_THROWS_WITH(invalid.advance(View<const double, 2>(row.data(), 1, 7)), Catch::Matchers::Contains("another tokenizer's"));
    CHECK_THROWS_WITH(ended.advance(View<const double, 2>(row.data(), 1, 7)), Catch::Matchers::Contains("the vocabulary has 7"));
  }
}
