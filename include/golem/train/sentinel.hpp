// The sentinel: watches gradient norm and loss scale, since a collapse follows a spike by a few steps (spec 4.6).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "golem/config/training.hpp"
#include "golem/core/error.hpp"
#include "golem/core/stateful.hpp"

namespace golem {

class Sentinel {
 public:
  struct Verdict {
    bool alarm = false;
    std::string why;  // a sentence, where there is an alarm
  };

  Sentinel() = default;
  explicit Sentinel(const SentinelConfig& config) : config_(config), norms_(static_cast<std::size_t>(config.history), 0.0) {}

  SentinelConfig::Action action() const { return config_.action; }

  /// Judges a step by its gradient norm, before clipping. One that is not finite is an alarm, unless a loss scale answers it
  /// (`scaled`), which it has lowered to `loss_scale`: then it is one where that is too small. A norm that raises an alarm does
  /// not join the history, so that a run of spikes cannot make itself look normal. Silent until the history is half full.
  Verdict judge(double norm, double loss_scale, bool scaled) {
    if (!std::isfinite(norm)) {
      if (!scaled) return {true, "the gradient is not finite"};
      if (loss_scale < config_.smallest_scale) return {true, sentence("the loss scale fell to ", loss_scale)};
      return {};
    }
    if (norms_.empty()) return {};
    const std::int64_t known = std::min<std::int64_t>(seen_, static_cast<std::int64_t>(norms_.size()));
    if (known * 2 >= static_cast<std::int64_t>(norms_.size()) && known > 0) {
      std::vector<double> sorted(norms_.begin(), norms_.begin() + known);
      std::nth_element(sorted.begin(), sorted.begin() + known / 2, sorted.end());
      const double median = sorted[static_cast<std::size_t>(known / 2)];
      if (norm > config_.factor * median) return {true, sentence("the gradient norm ", norm, " is ", norm / median, " times its running median")};
    }
    norms_[static_cast<std::size_t>(seen_++) % norms_.size()] = norm;
    return {};
  }

  /// A saved history of another length is taken over as far as it fits: its last norms.
  void visit_state(StateVisitor& visitor) {
    auto history = static_cast<std::int64_t>(norms_.size()), seen = seen_;
    visitor.integer("sentinel.history", history);
    visitor.integer("sentinel.seen", seen);
    require(history >= 0 && seen >= 0, "a saved run has seen ", seen, " gradient norms, and keeps ", history, ": it is damaged");
    std::vector<double> norms;
    for (std::int64_t i = 0; i < history; ++i) {
      norms.push_back(i < static_cast<std::int64_t>(norms_.size()) ? norms_[static_cast<std::size_t>(i)] : 0.0);
      visitor.real(sentence("sentinel.norm.", i), norms.back());
    }
    if (norms.size() == norms_.size()) norms_ = norms, seen_ = seen;
    else take_over(norms, seen);
  }

 private:
  void take_over(const std::vector<double>& norms, std::int64_t seen) {
    const auto length = static_cast<std::int64_t>(norms.size());
    seen_ = 0;
    for (std::int64_t left = std::min({seen, length, static_cast<std::int64_t>(norms_.size())}); left > 0; --left)
      norms_[static_cast<std::size_t>(seen_++)] = norms[static_cast<std::size_t>((seen - left) % length)];
  }

  SentinelConfig config_;
  std::vector<double> norms_ = std::vector<double>(64, 0.0);
  std::int64_t seen_ = 0;
};

}  // namespace golem
