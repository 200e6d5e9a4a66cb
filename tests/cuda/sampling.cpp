// Choosing a token on the GPU: the token that the host's sampler draws for the same random number.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "ops/numbers.hpp"

using namespace ops;

namespace {

/// What the device chooses, or the sampler's error.
template <class A>
std::int32_t choose(TestDevice& device, const Sampler& sampler, const std::vector<A>& logits, const std::vector<std::int32_t>& banned, std::uint64_t index) {
  const Tensor<A> logits_(device, logits);
  const Tensor<std::int32_t> banned_(device, banned);
  const Buffer<ChosenToken, TestDevice> chosen_(device, 1, "test");
  choose_token(device, chosen_.view(), logits_.vector(), View<const std::int32_t, 1>(banned_.vector()), sampler.choice(index));
  ChosenToken chosen;
  device.copy_out(&chosen, chosen_.data(), sizeof chosen);
  CHECK(logits_.typed().size() == logits.size());
  sampler.refuse(chosen.status);
  return chosen.token;
}

template <class A>
void check_draws(TestDevice& device, const Sampling& sampling, const std::vector<A>& logits, const std::vector<std::int32_t>& banned, int draws) {
  Sampler sampler(sampling);
  INFO(logits.size() << " logits, temperature " << sampling.temperature << ", top_k " << sampling.top_k << ", top_p " << sampling.top_p);
  for (std::uint64_t index = 0; index < static_cast<std::uint64_t>(draws); ++index) {
    const std::int32_t expected = sampler.draw(logits.data(), static_cast<std::int64_t>(logits.size()), banned, index);
    REQUIRE(choose(device, sampler, logits, banned, index) == expected);
  }
}

/// Logits with ties, and 0 of both signs.
template <class A>
std::vector<A> drawn_logits(std::int64_t count, double scale) {
  std::vector<A> logits;
  for (std::int64_t v = 0; v < count; ++v) logits.push_back(v % 5 == 3 ? A(v % 2 ? -0.0f : 0.0f) : static_cast<A>(static_cast<float>(scale * Random{5, 9}.normal(static_cast<std::uint64_t>(v / 2)))));
  return logits;
}

constexpr Sampling all_kinds[]{{.top_k = 1},
                               {},
                               {.temperature = 0.6f, .top_k = 5},
                               {.top_p = 0.8f, .answer = 3},
                               {.temperature = 1.7f, .top_k = 9, .top_p = 0.7f},
                               {.top_k = 1000000, .top_p = 1}};

}  // namespace

TEMPLATE_TEST_CASE("a token is drawn on the device as on the host, for odd vocabularies, ties and banned tokens", "", float, double) {
  on_each_device([](TestDevice& device) {
    for (const std::int64_t count : {1, 7, 37, 67})
      for (const Sampling& sampling : all_kinds) {
        const auto logits = drawn_logits<TestType>(count, 2);
        check_draws(device, sampling, logits, {}, 4);
        if (count > 7) check_draws(device, sampling, logits, {static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()), 3, 3}, 2);
      }
  });
}

TEST_CASE("a vocabulary of more tokens than threads, flat and steep") {
  on_each_device([](TestDevice& device) {
    for (const double scale : {0.01, 400.0}) check_draws(device, {.temperature = 0.9f, .top_k = 700, .top_p = 0.95f}, drawn_logits<float>(1091, scale), {17}, 1);
    check_draws(device, greedy, drawn_logits<float>(1091, 3), {}, 1);
  });
}

TEST_CASE("vocabularies, temperatures and cuts of all sizes, drawn at random") {
  on_each_device([](TestDevice& device) {
    for (std::uint64_t i = 0; i < 40; ++i) {
      const Random r{99, i};
      const auto count = static_cast<std::int64_t>(2 + r.below(0, i % 8 ? 300 : 2500));
      const Sampling sampling{.temperature = static_cast<float>(0.1 + 2 * r.uniform(2)),
                              .top_k = r.below(3, 2) ? static_cast<int>(2 + r.below(4, 60)) : 0,
                              .top_p = r.below(5, 2) ? static_cast<float>(r.uniform(6)) : 0,
                              .seed = i};
      check_draws(device, sampling, drawn_logits<float>(count, std::pow(10.0, 6 * r.uniform(1) - 3)), {static_cast<std::int32_t>(r.below(7, static_cast<std::uint64_t>(count)))}, 2);
    }
  });
}

TEST_CASE("vocabularies around the parts that a round has, of few different logits") {
  on_each_device([](TestDevice& device) {
    for (const std::int64_t count : {2047, 2048, 2049, 5000}) {
      std::vector<float> logits;
      for (std::int64_t v = 0; v < count; ++v) logits.push_back(static_cast<float>(Random{4, 4}.below(static_cast<std::uint64_t>(v), 3)) / 4);
      for (const Sampling& sampling : {Sampling{}, Sampling{.top_k = 40, .top_p = 0.6f}}) check_draws(device, sampling, logits, {7}, 3);
    }
  });
}

TEST_CASE("there is no token to choose among no logits") {
  on_each_device([](TestDevice& device) {
    const Buffer<ChosenToken, TestDevice> chosen(device, 1, "test");
    CHECK_THROWS_WITH(choose_token(device, chosen.view(), View<float, 1>(nullptr, 0), View<const std::int32_t, 1>{}, TokenChoice{}), Catch::Contains("from 0 logits: give 1 to 2^31 - 1"));
  });
}

TEST_CASE("equal logits alone: each token has its part") {
  on_each_device([](TestDevice& device) {
    check_draws(device, {}, std::vector<float>(33, 1.5f), {}, 8);
    check_draws(device, {.top_p = 0.5f}, std::vector<float>(33, -2.0f), {}, 8);
    check_draws(device, {.top_k = 1}, std::vector<float>(33, 1.5f), {}, 1);
  });
}

TEST_CASE("logits that are no numbers, and temperatures that make them none, are errors on the device too") {
  constexpr float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  on_each_device([&](TestDevice& device) {
    for (const float broken : {nan, -nan, infinity})
      for (const Sampling& sampling : {Sampling{.top_k = 1}, Sampling{.top_p = 0.9f}}) {
        std::vector<float> logits = drawn_logits<float>(37, 2);
        logits[36] = broken;
        CHECK_THROWS_WITH(choose(device, Sampler(sampling), logits, {36}, 0), Catch::Matchers::Contains("NaN or infinity"));
      }
    const std::vector<float> wide{60000, 70000, 1};
    CHECK_THROWS_WITH(choose(device, Sampler({.temperature = 1e-39f}), wide, {}, 0), Catch::Matchers::Contains("too small for logits in fp32"));
    check_draws(device, {}, wide, {}, 2);
    check_draws(device, {}, std::vector<float>{-infinity, 1, -infinity, 1}, {}, 4);
    for (const Sampling& sampling : all_kinds) {
      const std::vector<float> low{-70000, -80000, -90000, -80000, -70001};  // a ban is below any number
      check_draws(device, sampling, low, {0, 4}, 4);
      CHECK_THROWS_WITH(choose(device, Sampler(sampling), low, {0, 1, 2, 3, 4}, 0), Catch::Matchers::Contains("no token is left to draw"));
    }
  });
}
