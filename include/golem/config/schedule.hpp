// Pipeline schedules as data: what each stage does, in order, with each micro-batch of a step.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace golem {

enum class PipelineSchedule : std::uint8_t {
  gpipe,        // all forwards, then all backwards
  one_f_one_b,  // PipeDream-Flush: a stage holds at most as many micro-batches as stages follow it, and itself (spec 4.1)
  interleaved,  // 1F1B over several chunks of layers on each rank
  zero_bubble,  // ZB-H1: 1F1B whose weight gradients fill the bubble
};

/// One thing that a stage does. Receiving what it needs from the stage before or behind is part of it, and so is sending.
struct PipelineAction {
  enum class Work : std::uint8_t {
    forward,
    backward,         // gradients of the input and of the weights
    backward_input,   // of the input alone
    backward_weight,  // of the weights alone, some time after
  };
  Work work = Work::forward;
  int chunk = 0;        // which of the rank's chunks of layers; chunk c of rank r is virtual stage c * stages + r
  int micro_batch = 0;
  friend bool operator==(const PipelineAction&, const PipelineAction&) = default;
};

}  // namespace golem
