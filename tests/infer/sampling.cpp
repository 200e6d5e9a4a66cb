// Sampling draws what its options allow, as often as the probabilities say.
// SPDX-License-Identifier: Apache-2.0
#include "golem/infer/sampling.hpp"

#include <cmath>
#include <map>
#include <set>

#include "catch.hpp"

using namespace golem;

namespace {

const std::vector<float> logits{1.0f, 3.0f, 2.0f, 2.0f, -1.0f, 0.0f};

std::map<int, int> draw(const Sampling& sampling, int count, std::vector<std::int32_t> banned = {}) {
  Sampler sampler(sampling);
  std::map<int, int> counts;
  for (int i = 0; i < count; ++i) ++counts[sampler.draw(logits.data(), 6, banned, 0, static_cast<std::uint64_t>(i))];
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

TEST_CASE("the same seed draws the same tokens, another seed others") {
  Sampler a({.seed = 1}), b({.seed = 1}), c({.seed = 2});
  int same = 0;
  for (std::uint64_t i = 0; i < 200; ++i) {
    const auto x = a.draw(logits.data(), 6, {}, 0, i);
    REQUIRE(x == b.draw(logits.data(), 6, {}, 0, i));
    same += x == c.draw(logits.data(), 6, {}, 0, i);
  }
  CHECK(same < 150);
}
