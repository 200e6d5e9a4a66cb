// StepReport: what one training step has to tell, as a value; the report/ folder and users' hooks read it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "golem/core/batch.hpp"

namespace golem {

struct TaskLoss {
  double loss = 0;        // nats per scored token, mean over the task's rows of this step
  std::int64_t rows = 0;  // 0: no row of that task in this step
};

struct StepReport {
  std::int64_t step = 0;     // 1-based, of the step just done
  std::int64_t samples = 0;  // rows consumed so far, this step included
  std::int64_t tokens = 0;   // tokens of this step, pads included
  double loss = 0;           // nats per scored token, mean over rows
  std::array<TaskLoss, task_count> tasks{};
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
  double loss_scale = 1;
  bool skipped = false;  // the update was not applied: overflow, or the sentinel said so
  double seconds = 0;    // wall time of the step
  bool alarm = false;    // the sentinel raised an alarm
  std::string note;      // what the sentinel or the loss scaler has to say, if anything
};

}  // namespace golem
