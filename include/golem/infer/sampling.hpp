// Choosing a token from logits: greedy, temperature, top-k, top-p; in golem's arithmetic, or to the letter of the original (spec 6.1).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/number.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/core/random.hpp"

namespace golem {

enum class SamplingRules : std::uint8_t {
  golem,     // probabilities and their sums in double; of equal largest logits top-k 1 takes the first
  original,  // logits, the probabilities of top-p and their sums are rounded to fp16; of equal logits any may be drawn
};

struct Sampling {
  float temperature = 1;  // above 0, finite
  int top_k = 0;          // 0: all; 1: greedy
  float top_p = 0;        // 0: all; else the likeliest tokens, as few as have more than this probability together, or all
  int max_tokens = 256;   // generated
  int min_tokens = 0;     // no end token before; the original's sampling knows no such thing
  std::uint64_t seed = 1234;
  std::uint64_t answer = 0;  // its number among those of the seed: each answer has random numbers of its own
  SamplingRules rules = SamplingRules::golem;
  std::span<const std::int32_t> invalid = {};  // tokens that are never drawn; must outlive the sampler
};

inline constexpr Sampling greedy{.top_k = 1};

/// Draws tokens under one Sampling. Keeps its work space: no allocation from the second call on.
class Sampler {
 public:
  explicit Sampler(const Sampling& sampling) : sampling_(sampling) {
    require(sampling.temperature > 0 && std::isfinite(sampling.temperature), "sampling at temperature ", sampling.temperature, " was asked for: it must be above 0 and finite; for greedy, top_k 1");
    require(sampling.top_k >= 0, "sampling of the ", sampling.top_k, " likeliest tokens was asked for: top_k is 0 for all, or above; for greedy, top_k 1");
    require(sampling.top_p >= 0 && sampling.top_p <= 1, "sampling of tokens with probability ", sampling.top_p, " was asked for: top_p is between 0, for all, and 1; for greedy, top_k 1");
  }

  /// The token drawn from `logits` (V), never one of `banned`; number `index` of its answer. Throws Error for logits that
  /// hold NaN or infinity, for a token to ban that they do not have, and where all are banned. (By the original's rules a ban is
  /// a logit of -65504, the lowest of fp16, and others may be as low.)
  template <class A>
  std::int32_t draw(const A* logits, std::int64_t count, std::span<const std::int32_t> banned, std::uint64_t index) {
    const bool is_original = sampling_.rules == SamplingRules::original;
    for (const auto& tokens : {sampling_.invalid, banned}) check_banned(tokens, count);
    candidates_.clear();
    candidates_.reserve(static_cast<std::size_t>(count));
    float largest = -std::numeric_limits<float>::infinity();
    for (std::int64_t v = 0; v < count; ++v) {
      const float logit = is_original ? rounded(static_cast<float>(logits[v])) : static_cast<float>(logits[v]);
      if (!(logit < std::numeric_limits<float>::infinity())) refuse(ChosenToken::Status::no_number);
      const float divided = logit / sampling_.temperature;
      candidates_.push_back({is_original ? rounded(divided) : divided, static_cast<std::int32_t>(v)});
      largest = std::max(largest, candidates_.back().logit);
    }
    if (!std::isfinite(largest)) refuse(ChosenToken::Status::too_cold);
    for (const auto& tokens : {sampling_.invalid, banned})
      for (const std::int32_t token : tokens) candidates_[static_cast<std::size_t>(token)].logit = is_original ? -65504.0f : -std::numeric_limits<float>::infinity();
    const Candidate& likeliest = *std::max_element(candidates_.begin(), candidates_.end(), by_logit);
    if (!std::isfinite(likeliest.logit)) refuse(ChosenToken::Status::none_left);
    if (sampling_.top_k == 1 && !is_original) return likeliest.token;

    if (sampling_.top_k > 0 && static_cast<std::size_t>(sampling_.top_k) < candidates_.size()) {
      const auto kth = candidates_.begin() + (sampling_.top_k - 1);
      std::nth_element(candidates_.begin(), kth, candidates_.end(), after);
      const float least = kth->logit;  // ties with it stay
      std::erase_if(candidates_, [least](const Candidate& c) { return c.logit < least; });
    }
    std::sort(candidates_.begin(), candidates_.end(), after);
    double total = 0;
    for (Candidate& c : candidates_) total += c.probability = std::exp(static_cast<double>(c.logit) - candidates_.front().logit);
    if (sampling_.top_p > 0) {
      candidates_.resize(is_original ? kept_in_fp16(total) : kept(total));
      total = 0;
      for (const Candidate& c : candidates_) total += c.probability;
    }
    double target = uniform(index) * total;
    std::int32_t last = candidates_.front().token;  // of those that may be drawn: where rounding leaves a rest of the target
    for (const Candidate& c : candidates_) {
      if (c.probability > 0) last = c.token;
      if ((target -= c.probability) < 0) break;
    }
    return last;
  }

  const Sampling& sampling() const { return sampling_; }

  /// What a device is asked to do instead of `draw`, by golem's rules, for number `index` of the answer.
  TokenChoice choice(std::uint64_t index) const {
    return {.temperature = sampling_.temperature, .top_k = sampling_.top_k, .top_p = sampling_.top_p, .uniform = uniform(index)};
  }

  /// Throws Error where a token to ban is none of `count`.
  static void check_banned(std::span<const std::int32_t> tokens, std::int64_t count) {
    for (const std::int32_t token : tokens)
      require(token >= 0 && token < count, "token ", token, " is banned, and the vocabulary has ", count, ": the special tokens are another tokenizer's");
  }

  /// Throws Error for logits that no token could be chosen from.
  void refuse(ChosenToken::Status status) const {
    require(status != ChosenToken::Status::no_number, "the logits hold NaN or infinity: the weights are damaged, or fp16 is too narrow for them");
    require(status != ChosenToken::Status::none_left, "no token is left to draw: all are banned, or those that are not have logits of -infinity at temperature ", sampling_.temperature);
    require(status == ChosenToken::Status::chosen, "temperature ", sampling_.temperature, " is too small for logits in ", sampling_.rules == SamplingRules::original ? "fp16" : "fp32",
            ": for greedy, take top_k 1 at temperature 1");
  }

 private:
  struct Candidate {
    float logit;
    std::int32_t token;
    double probability = 0;
  };
  static bool by_logit(const Candidate& a, const Candidate& b) { return a.logit < b.logit; }
  static bool after(const Candidate& a, const Candidate& b) { return a.logit > b.logit || (a.logit == b.logit && a.token < b.token); }
  double uniform(std::uint64_t index) const { return Random{sampling_.seed, sampling_.answer}.uniform(index); }
  static float rounded(double value) { return static_cast<float>(float16(static_cast<float>(value))); }

  /// How many of the sorted candidates top-p keeps: those before which the sum has not passed it.
  std::size_t kept(double total) const {
    double before = 0;
    std::size_t count = 0;
    while (count < candidates_.size() && before <= static_cast<double>(sampling_.top_p) * total) before += candidates_[count++].probability;
    return count;
  }

  /// The same as the original's logits have it: each probability, the sum so far and top-p itself in fp16. Small
  /// probabilities then add nothing to a sum near 1, and stay. (A GPU may add in another order.)
  std::size_t kept_in_fp16(double total) const {
    float before = 0;
    std::size_t count = 0;
    while (count < candidates_.size() && before <= rounded(sampling_.top_p)) before = rounded(before + rounded(candidates_[count++].probability / total));
    return count;
  }

  Sampling sampling_;
  std::vector<Candidate> candidates_;
};

}  // namespace golem
