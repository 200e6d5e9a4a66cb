// The plan: parameters, flops and bytes of a model before it runs, item by item, at compile time where the model is one.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "golem/config/flops.hpp"
#include "golem/config/hardware.hpp"
#include "golem/config/plan_inference.hpp"
#include "golem/config/plan_training.hpp"

namespace golem {

/// Whether the fullest rank of a training run fits its device. A batch that is smaller than what the data ranks take at once is
/// not known yet: then as many micro-batches are in flight as the schedule can have.
constexpr bool fits(const ModelConfig& c, const TrainingTypes& types, const Layout& layout, const Hardware& hardware, TrainingConfig training) {
  const std::int64_t at_once = std::int64_t{training.micro_batch} * layout.dp;
  if (training.batch.full < at_once) training.batch.full = at_once * 64 * layout.pp;
  return fullest_stage(c, types, layout, training).memory.total() <= hardware.usable();
}

/// For static_assert: `fits<glm_130b, fp16_mixed, Layout{.tp = 4, .pp = 8, .dp = 24}>(a100_40gb, {.micro_batch = 1, .recompute = Recompute::block})`.
template <Model M, TrainingPrecision P, Layout layout>
constexpr bool fits(const Hardware& hardware, const TrainingConfig& training) {
  return fits(M::config, types_of<P>(), layout, hardware, training);
}

/// The same for an engine of `sequences` of up to `capacity` tokens (0: the context).
template <Model M, Precision P, Layout layout = Layout{}>
constexpr bool fits_inference(const Hardware& hardware, int sequences = 1, int capacity = 0) {
  return plan_inference<M, P>(sequences, capacity, layout.tp).total() <= hardware.usable();
}

}  // namespace golem
