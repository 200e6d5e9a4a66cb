// The dynamic loss scale: halves after overflows, doubles after a quiet window (spec 4.2).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/config/training.hpp"
#include "golem/core/math.hpp"
#include "golem/core/stateful.hpp"

namespace golem {

class LossScaler {
 public:
  LossScaler() = default;
  explicit LossScaler(const LossScale& config) : config_(config), scale_(config.initial), hysteresis_(config.hysteresis) {}

  double scale() const { return scale_; }
  /// Whether overflows can still lower it.
  bool can_fall() const { return config_.window > 0 && scale_ > config_.min; }

  /// Tells what a step's gradients were. An overflow first uses up the hysteresis, then each one halves the scale; it
  /// doubles when a whole number of windows has passed since the last overflow.
  void update(bool overflow) {
    if (config_.window == 0) return;
    if (overflow) {
      if (hysteresis_ <= 1) scale_ = larger(scale_ / 2, config_.min);
      else --hysteresis_;
      last_overflow_ = iteration_;
    } else if ((iteration_ - last_overflow_) % config_.window == 0) {
      hysteresis_ = config_.hysteresis;
      scale_ *= 2;
    }
    ++iteration_;
  }

  void visit_state(StateVisitor& visitor) {
    visitor.real("loss_scale.scale", scale_);
    visitor.integer("loss_scale.hysteresis", hysteresis_);
    visitor.integer("loss_scale.iteration", iteration_);
    visitor.integer("loss_scale.last_overflow", last_overflow_);
  }

 private:
  LossScale config_;
  double scale_ = 1;
  std::int64_t hysteresis_ = 1, iteration_ = 0, last_overflow_ = -1;
};

}  // namespace golem
