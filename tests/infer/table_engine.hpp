// TableEngine: an engine whose logits are a function of the tokens in its cache, so that a mistake in who lies where shows.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "golem/config/special_tokens.hpp"
#include "golem/core/error.hpp"
#include "golem/core/random.hpp"
#include "golem/core/tensor.hpp"
#include "golem/infer/engine_core.hpp"

/// Of a model with so few tokens that several share a number.
inline constexpr golem::SpecialTokens few_tokens{.mask = 0, .gmask = 1, .smask = 2, .sop = 3, .eop = 7, .eos = 8, .newline = 0, .pad = 0};

/// Logits behind a sequence.
inline std::vector<double> table_logits(const std::vector<std::int32_t>& tokens, int vocab) {
  std::uint64_t hash = 17;
  for (const std::int32_t token : tokens) hash = (hash ^ static_cast<std::uint64_t>(token + 1)) * 1099511628211u;
  std::vector<double> logits;
  for (int v = 0; v < vocab; ++v) logits.push_back(1.5 * golem::Random{hash, 3}.normal(static_cast<std::uint64_t>(v)));
  return logits;
}

class TableEngine {
 public:
  TableEngine(int sequences, int capacity, int vocab) : slots_(static_cast<std::size_t>(sequences)), capacity_(capacity), vocab_(vocab) {}

  int sequences() const { return static_cast<int>(slots_.size()); }
  int capacity() const { return capacity_; }
  int context() const { return capacity_ + 5; }
  std::int64_t copied() const { return copied_; }

  golem::View<const double, 2> forward(std::span<const golem::SequenceStep> steps) {
    logits_.clear();
    for (const golem::SequenceStep& step : steps) {
      std::vector<std::int32_t>& slot = slots_.at(static_cast<std::size_t>(step.slot));
      golem::require(static_cast<std::size_t>(step.first) <= slot.size() && step.first + static_cast<int>(step.tokens.size()) <= capacity_, "a step begins behind its cache, or does not fit it");
      slot.resize(static_cast<std::size_t>(step.first));
      slot.insert(slot.end(), step.tokens.begin(), step.tokens.end());
      positions_.assign(step.positions.begin(), step.positions.end());
      const std::vector<double> row = table_logits(slot, vocab_);
      logits_.insert(logits_.end(), row.begin(), row.end());
    }
    return {logits_.data(), static_cast<std::int64_t>(steps.size()), vocab_};
  }

  void copy_sequence(std::int32_t from, std::int32_t to, std::int32_t first, std::int32_t count) {
    const std::vector<std::int32_t>& source = slots_.at(static_cast<std::size_t>(from));
    std::vector<std::int32_t>& target = slots_.at(static_cast<std::size_t>(to));
    golem::require(from != to && source.size() >= static_cast<std::size_t>(first + count) && target.size() >= static_cast<std::size_t>(first), "a copy reads or leaves what nobody wrote");
    target.resize(static_cast<std::size_t>(first));
    target.insert(target.end(), source.begin() + first, source.begin() + first + count);
    copied_ += count;
  }

  const std::vector<std::int32_t>& last_positions() const { return positions_; }

 private:
  std::vector<std::vector<std::int32_t>> slots_;
  int capacity_, vocab_;
  std::vector<double> logits_;
  std::vector<std::int32_t> positions_;
  std::int64_t copied_ = 0;
};
