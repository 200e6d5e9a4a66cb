// A trigram model with interpolated modified Kneser-Ney smoothing: the baseline that a language model has to beat.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "golem/core/error.hpp"

namespace golem {

/// P(c | a b) over token ids below `vocab` (Chen and Goodman 1998, "modified Kneser-Ney", interpolated down to uniform).
/// Any context, seen or not, has probabilities that add up to 1.
class Trigram {
 public:
  /// Counts `documents`, each read as if two `start` tokens came before it.
  Trigram(std::int64_t vocab, std::int32_t start, std::span<const std::vector<std::int32_t>> documents) : vocab_(vocab), start_(start) {
    require(vocab >= 2 && vocab < (std::int64_t{1} << 20), "a trigram model of ", vocab, " tokens was asked for: 2 to 1,048,575");
    for (const auto& document : documents) {
      std::int64_t a = start, b = start;
      for (const std::int32_t c : document) {
        require(c >= 0 && c < vocab, "token ", c, " is not in the trigram model's vocabulary of ", vocab);
        if (++orders_[2].counts[key(a, b, c)] == 1 && ++orders_[1].counts[key(0, b, c)] == 1) ++orders_[0].counts[c];  // lower orders count contexts
        a = b, b = c;
      }
    }
    for (Order& order : orders_) order.finish(vocab);
  }

  double probability(std::int64_t a, std::int64_t b, std::int64_t c) const {
    double p = 1.0 / static_cast<double>(vocab_);
    p = orders_[0].interpolate(0, c, p);
    p = orders_[1].interpolate(b, key(0, b, c), p);
    return orders_[2].interpolate(key(0, a, b), key(a, b, c), p);
  }

  /// Bits of a document's tokens.
  double bits(std::span<const std::int32_t> tokens) const {
    double sum = 0;
    std::int64_t a = start_, b = start_;
    for (const std::int32_t c : tokens) {
      sum -= std::log2(probability(a, b, c));
      a = b, b = c;
    }
    return sum;
  }

  /// The index of the candidate that fits best between `left` and `right`: the largest probability of its tokens after the
  /// last two of `left`, times that of the first two of `right` after it.
  std::size_t best_fill(std::span<const std::int32_t> left, std::span<const std::int32_t> right, std::span<const std::vector<std::int32_t>> candidates) const {
    require(!candidates.empty(), "a blank cannot be filled without candidates");
    const std::int64_t before = left.size() > 1 ? left[left.size() - 2] : start_, last = left.empty() ? start_ : left.back();
    std::size_t best = 0;
    double best_score = -1e300;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      double score = 0;
      std::int64_t a = before, b = last;
      const auto add = [&](std::int64_t c) { score += std::log(probability(a, b, c)), a = b, b = c; };
      for (const std::int32_t token : candidates[i]) add(token);
      for (const std::int32_t token : right.first(right.size() < 2 ? right.size() : 2)) add(token);
      if (score > best_score) best_score = score, best = i;
    }
    return best;
  }

 private:
  using Key = std::uint64_t;
  Key key(std::int64_t a, std::int64_t b, std::int64_t c) const { return static_cast<Key>((a * vocab_ + b) * vocab_ + c); }

  /// Followers of a context: how often any, and how many different ones were seen once, twice, more often.
  struct Context {
    double total = 0;
    std::array<double, 3> kinds{};
  };

  struct Order {
    std::unordered_map<Key, std::uint32_t> counts;
    std::unordered_map<Key, Context> contexts;  // by the key without its last token
    std::array<double, 3> discounts{};

    void finish(std::int64_t vocab) {
      std::array<double, 5> of_count{};
      for (const auto& [key, count] : counts) {
        Context& context = contexts[key / static_cast<Key>(vocab)];
        context.total += count;
        ++context.kinds[count < 3 ? count - 1 : 2];
        if (count <= 4) ++of_count[count];
      }
      const double y = of_count[1] > 0 ? of_count[1] / (of_count[1] + 2 * of_count[2]) : 0.5;
      for (int i = 1; i <= 3; ++i) {
        const auto n = static_cast<std::size_t>(i);
        const double d = of_count[n] > 0 ? i - (i + 1) * y * of_count[n + 1] / of_count[n] : 0.5 * i;
        discounts[n - 1] = d > 0 && d < i ? d : 0.5 * i;  // tiny corpora give estimates out of range
      }
    }

    double interpolate(Key context_key, Key key, double lower) const {
      const auto context = contexts.find(context_key);
      if (context == contexts.end()) return lower;
      const auto found = counts.find(key);
      const std::uint32_t count = found == counts.end() ? 0 : found->second;
      const double kept = count == 0 ? 0 : count - discounts[count < 3 ? count - 1 : 2];
      double freed = 0;
      for (std::size_t i = 0; i < 3; ++i) freed += discounts[i] * context->second.kinds[i];
      return (kept + freed * lower) / context->second.total;
    }
  };

  std::int64_t vocab_;
  std::int32_t start_;
  std::array<Order, 3> orders_;
};

}  // namespace golem
