// AnswerRules: what ends an answer, and which tokens may not be drawn for it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "golem/config/special_tokens.hpp"
#include "golem/infer/sampling.hpp"

namespace golem {

/// Sampling::invalid is never drawn, and an end token not before Sampling::min_tokens.
class AnswerRules {
 public:
  /// Throws Error where a token that is banned at any time is none of `vocab`.
  AnswerRules(const Sampling& sampling, const SpecialTokens& special, std::int64_t vocab)
      : banned_(sampling.invalid.begin(), sampling.invalid.end()), always_(banned_.size()), min_tokens_(sampling.min_tokens), special_(special) {
    banned_.insert(banned_.end(), {special.eop, special.eos});
    Sampler::check_banned(banned(0), vocab);
  }

  /// What may not be drawn behind `made` tokens: the first ones of all().
  std::span<const std::int32_t> banned(std::size_t made) const { return all().first(static_cast<std::int64_t>(made) < min_tokens_ ? banned_.size() : always_); }
  std::span<const std::int32_t> all() const { return banned_; }
  bool is_end(std::int32_t token) const { return token == special_.eop || token == special_.eos; }

 private:
  std::vector<std::int32_t> banned_;  // always so, and then the end tokens
  std::size_t always_;
  int min_tokens_;
  SpecialTokens special_;
};

}  // namespace golem
