// Sampling draws what its options allow, as often as the probabilities say.
// SPDX-License-Identifier: Apache-2.0
#include "golem/infer/sampling.hpp"

#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "catch.hpp"

using namespace golem;

namespace {

const std::vector<float> logits{1.0f, 3.0f, 2.0f, 2.0f, -1.0f, 0.0f};

std::map<int, int> draw(const Sampling& sampling, int count, std::vector<std::int32_t> banned = {}) {
  Sampler sampler(sampling);
  std::map<int, int> counts;
  for (int i = 0; i < count; ++i) ++counts[sampler.draw(logits.data(), 6, banned, static_cast<std::uint64_t>(i))];
  return counts;
}

}  // namespace

TEST_CASE("greedy takes the largest that is not banned, the first among equals") {
  CHECK(draw(greedy, 3) == std::map<int, int>{{1, 3}});
  CHECK(draw(greedy, 3, {1}) == std::map<int, int>{{2, 3}});
}

TEST_CASE("frequencies are the softmax of logits over temperature") {
  for (const float temperature : {0.7f, 1.0f, 2.0f}) {
    const int n = 40000;
    const auto counts = draw({.temperature = temperature}, n);
    double sum = 0;
    for (const float l : logits) sum += std::exp(l / temperature);
    for (int v = 0; v < 6; ++v) {
      const double p = std::exp(logits[static_cast<std::size_t>(v)] / temperature) / sum;
      const double observed = counts.contains(v) ? counts.at(v) : 0;
      CHECK(std::abs(observed / n - p) < 5 * std::sqrt(p * (1 - p) / n));
    }
  }
}

TEST_CASE("top-k keeps ties with the k-th; top-p keeps the token that crosses the threshold") {
  const auto seen = [](const std::map<int, int>& counts) {
    std::set<int> tokens;
    for (const auto& [token, count] : counts) tokens.insert(token);
    return tokens;
  };
  CHECK(seen(draw({.top_k = 2}, 2000)) == std::set<int>{1, 2, 3});
  // probabilities: 0.53 (1), 0.195 (2), 0.195 (3), 0.07 (0), 0.026, 0.01
  CHECK(seen(draw({.top_p = 0.5f}, 2000)) == std::set<int>{1});
  CHECK(seen(draw({.top_p = 0.6f}, 2000)) == std::set<int>{1, 2});
  CHECK(seen(draw({.top_p = 0.95f}, 4000)) == std::set<int>{0, 1, 2, 3});
  CHECK(seen(draw({.top_k = 4, .top_p = 0.95f}, 4000)) == std::set<int>{0, 1, 2, 3});
}

TEST_CASE("the same seed draws the same tokens, another seed or another answer others") {
  Sampler a({.seed = 1}), b({.seed = 1}), c({.seed = 2}), d({.seed = 1, .answer = 1});
  int same = 0, same_seed = 0;
  for (std::uint64_t i = 0; i < 200; ++i) {
    const auto x = a.draw(logits.data(), 6, {}, i);
    REQUIRE(x == b.draw(logits.data(), 6, {}, i));
    same += x == c.draw(logits.data(), 6, {}, i);
    same_seed += x == d.draw(logits.data(), 6, {}, i);
  }
  CHECK(same < 150);
  CHECK(same_seed < 150);
}

TEST_CASE("invalid tokens are never drawn") {
  const std::int32_t invalid[]{1, 2};
  const auto counts = draw({.invalid = invalid}, 2000, {3});
  for (const int token : {1, 2, 3}) CHECK_FALSE(counts.contains(token));
  CHECK(counts.size() == 3);
  CHECK(draw({.top_k = 1, .invalid = invalid}, 3) == std::map<int, int>{{3, 3}});
  const std::vector<float> low{-1, -2, -3};  // at this temperature below the lowest number of fp16, which is a ban by the original's rules
  for (const int top_k : {0, 1, 2}) {
    Sampler cold({.temperature = 1e-5f, .top_k = top_k, .invalid = std::span(invalid).subspan(0, 1)});
    CHECK(cold.draw(low.data(), 3, std::vector<std::int32_t>{2}, 0) == 0);
    CHECK_THROWS_WITH(cold.draw(low.data(), 3, std::vector<std::int32_t>{0, 2}, 0), Catch::Matchers::Contains("no token is left to draw"));
  }
}

namespace {

/// Spec 6.1, step by step and over the whole vocabulary: what may be drawn, and how likely each is.
std::vector<double> original_probabilities(const std::vector<float>& of, float temperature, int top_k, float top_p, const std::set<int>& invalid) {
  const auto half = [](double x) { return static_cast<float>(float16(static_cast<float>(x))); };
  const std::size_t n = of.size();
  std::vector<float> values(n);
  for (std::size_t v = 0; v < n; ++v) values[v] = invalid.contains(static_cast<int>(v)) ? -65504.0f : half(half(of[v]) / temperature);
  std::vector<std::size_t> order(n);
  const auto sort = [&] {
    for (std::size_t v = 0; v < n; ++v) order[v] = v;
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return values[a] > values[b]; });
  };
  const auto softmax = [&] {
    std::vector<double> p(n);
    double sum = 0;
    const float largest = *std::max_element(values.begin(), values.end());
    for (std::size_t v = 0; v < n; ++v) sum += p[v] = std::exp(static_cast<double>(values[v]) - largest);
    for (double& x : p) x /= sum;
    return p;
  };
  if (top_k > 0) {
    sort();
    const float least = values[order[static_cast<std::size_t>(top_k) - 1]];
    for (float& v : values) v = v < least ? -65504.0f : v;
  }
  if (top_p > 0) {
    sort();
    const std::vector<double> p = softmax();
    float sum = 0;
    for (const std::size_t v : order) {
      const bool is_removed = sum > half(top_p);
      sum = half(sum + half(p[v]));
      if (is_removed) values[v] = -65504.0f;
    }
  }
  return softmax();
}

}  // namespace

TEST_CASE("by the original's rules frequencies are those of its steps, taken one by one") {
  struct Case {
    float temperature;
    int top_k;
    float top_p;
    std::set<int> invalid;
  };
  std::vector<float> wide(40);
  for (std::size_t v = 0; v < wide.size(); ++v) wide[v] = static_cast<float>(4 * Random{5, 1}.normal(v));
  wide[7] = wide[11];
  for (const auto& values : {logits, wide})
    for (const Case& c : {Case{1, 0, 0, {}}, Case{0.7f, 0, 0.7f, {}}, Case{1.3f, 3, 0, {1}}, Case{1, 4, 0.8f, {}}, Case{2, 0, 0.95f, {0, 2}}, Case{1, 1, 0, {1}}, Case{1, 0, 0.9995f, {}}}) {
      const std::vector<double> expected = original_probabilities(values, c.temperature, c.top_k, c.top_p, c.invalid);
      const std::vector<std::int32_t> invalid(c.invalid.begin(), c.invalid.end());
      Sampler sampler({.temperature = c.temperature, .top_k = c.top_k, .top_p = c.top_p, .rules = SamplingRules::original, .invalid = invalid});
      std::vector<int> counts(values.size());
      const int n = 20000;
      for (int i = 0; i < n; ++i) ++counts[static_cast<std::size_t>(sampler.draw(values.data(), static_cast<std::int64_t>(values.size()), {}, static_cast<std::uint64_t>(i)))];
      INFO("temperature " << c.temperature << ", top-k " << c.top_k << ", top-p " << c.top_p << ", " << values.size() << " tokens");
      for (std::size_t v = 0; v < values.size(); ++v) CHECK(std::abs(counts[v] / static_cast<double>(n) - expected[v]) <= 5 * std::sqrt(expected[v] * (1 - expected[v]) / n));
    }
}

TEST_CASE("by the original's rules equal largest logits are all drawn, and logits equal in fp16 are equal") {
  const std::vector<float> close{1.0f, 2.0f, 2.0001f, 2.0f};
  Sampler original({.top_k = 1, .rules = SamplingRules::original}), own({.top_k = 1});
  std::set<int> seen;
  for (std::uint64_t i = 0; i < 200; ++i) {
    seen.insert(original.draw(close.data(), 4, {}, i));
    REQUIRE(own.draw(close.data(), 4, {}, i) == 2);
  }
  CHECK(seen == std::set<int>{1, 2, 3});
}

TEST_CASE("by the original's rules a tail of small probabilities stays: in fp16 they add nothing to the sum") {
  std::vector<float> tail(5000, 0.0f);
  tail[0] = 13;  // 0.9888; the others 2.2e-6 each, less than half a unit in fp16's last place
  const auto drawn = [&](SamplingRules rules) {
    Sampler sampler({.top_p = 0.99f, .rules = rules});
    std::int32_t last = 0;
    for (std::uint64_t i = 0; i < 3000; ++i) last = std::max(last, sampler.draw(tail.data(), 5000, {}, i));
    return last;
  };
  CHECK(drawn(SamplingRules::original) > 2000);
  CHECK(drawn(SamplingRules::golem) < 1000);
}

TEST_CASE("logits that are no numbers are refused, wherever they lie and however tokens are drawn") {
  for (const auto rules : {SamplingRules::golem, SamplingRules::original})
    for (const int top_k : {0, 1, 3})
      for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
        for (std::size_t at = 0; at < logits.size(); ++at) {
          std::vector<float> broken = logits;
          broken[at] = bad;
          Sampler sampler({.top_k = top_k, .top_p = top_k ? 0.0f : 0.9f, .rules = rules});
          CHECK_THROWS_WITH(sampler.draw(broken.data(), 6, {}, 0), Catch::Matchers::Contains("NaN or infinity"));
        }
  const std::vector<float> wide{1.0f, 1e5f, 2.0f};  // infinite in fp16 alone
  CHECK_THROWS_WITH(Sampler({.rules = SamplingRules::original}).draw(wide.data(), 3, {}, 0), Catch::Matchers::Contains("too narrow"));
  CHECK(Sampler(Sampling{}).draw(wide.data(), 3, {}, 0) == 1);
  const std::vector<float> never{1.0f, -std::numeric_limits<float>::infinity()};
  CHECK(Sampler(Sampling{}).draw(never.data(), 2, {}, 0) == 0);
}

TEST_CASE("options that leave nothing to draw from are refused, and so is a temperature that no logit survives") {
  using Catch::Matchers::Contains;
  CHECK_THROWS_WITH(Sampler({.temperature = 0, .top_p = 0.9f}), Contains("top_k 1"));
  CHECK_THROWS_WITH(Sampler({.temperature = std::numeric_limits<float>::quiet_NaN()}), Contains("above 0"));
  CHECK_THROWS_WITH(Sampler({.temperature = std::numeric_limits<float>::infinity()}), Contains("finite"));
  CHECK_THROWS_WITH(Sampler({.top_k = -1}), Contains("top_k"));
  for (const float top_p : {-0.1f, 1.1f, std::numeric_limits<float>::quiet_NaN()}) CHECK_THROWS_WITH(Sampler({.top_p = top_p}), Contains("top_p"));
  CHECK_NOTHROW(Sampler({.top_p = 1}));
  Sampler original({.temperature = 1e-5f, .top_p = 0.9f, .rules = SamplingRules::original}), own({.temperature = 1e-5f, .top_p = 0.9f});
  CHECK_THROWS_WITH(original.draw(logits.data(), 6, {}, 0), Contains("too small for logits in fp16"));
  CHECK(own.draw(logits.data(), 6, {}, 0) == 1);
  CHECK_THROWS_WITH(Sampler({.temperature = 1e-39f}).draw(logits.data(), 6, {}, 0), Contains("too small for logits in fp32"));
}

TEST_CASE("tokens to ban must be of the vocabulary") {
  using Catch::Matchers::Contains;
  for (const std::int32_t token : {-1, 6, 150000}) {
    CHECK_THROWS_WITH(draw(greedy, 1, {token}), Contains("another tokenizer's"));
    const std::int32_t invalid[]{token};
    CHECK_THROWS_WITH(draw({.invalid = invalid}, 1), Contains("the vocabulary has 6"));
  }
}
