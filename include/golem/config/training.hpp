// TrainingConfig: everything about a run that is not the model, its precision or its layout; all run-time values.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "golem/config/schedule.hpp"
#include "golem/core/error.hpp"

namespace golem {

/// Linear warm-up from 0, cosine to `min`, then constant; counted in samples (rows), spec 4.2.
struct LearningRate {
  double peak = 1e-3, min = 1e-4;
  std::int64_t warmup_samples = 0;
  std::int64_t decay_samples = 0;  // where the cosine ends; 0: the rate stays at its peak
};

/// Rows in a step: `full`, reached from `start` in equal increments over `ramp_samples` (spec 4.2); start 0: no ramp.
struct BatchSize {
  std::int64_t full = 8, start = 0, increment = 0, ramp_samples = 0;
  friend constexpr bool operator==(const BatchSize&, const BatchSize&) = default;
};

/// Embedding-gradient shrink (spec 4.3): the gradient into the embedding is multiplied by alpha, up to step `ramp_from`;
/// by 1 from step ramp_from + ramp_steps on; in between it rises in a line.
struct EmbeddingShrink {
  enum class Where : std::uint8_t { input, input_and_head };
  double alpha = 1;
  std::int64_t ramp_from = std::int64_t{1} << 60, ramp_steps = 0;
  Where where = Where::input;
};

/// Dynamic loss scale of fp16 (spec 4.2, section 9 item 9).
struct LossScale {
  double initial = 65536, min = 1;
  int window = 200;    // steps without overflow until it doubles; 0: the scale stays at `initial`
  int hysteresis = 2;  // overflows until it halves
};

/// What watches for a collapse, which follows a spike of the gradient norm by a few steps (spec 4.6).
struct SentinelConfig {
  enum class Action : std::uint8_t { report, skip, roll_back };
  Action action = Action::report;
  double factor = 8;             // a spike: gradient norm above factor x its running median
  int history = 64;              // steps that the median is taken over; 0: norms are not compared
  double smallest_scale = 128;   // an overflow that leaves a smaller loss scale is an alarm too
};

/// What the backward pass computes again instead of keeping.
enum class Recompute : std::uint8_t {
  none,
  attention,    // keeps all but queries, keys, values and what attention makes of them
  block,        // keeps each block's input only
  block_split,  // and of that, on each tensor rank, its own part of the tokens (spec 4.1, "partition_activations")
};

constexpr const char* name_of(Recompute what) {
  constexpr const char* names[]{"none", "attention", "block", "block_split"};
  return names[static_cast<int>(what)];
}

/// What is computed again, by its name. Throws Error where there is no such thing.
inline Recompute recompute_named(std::string_view name) {
  for (const auto what : {Recompute::none, Recompute::attention, Recompute::block, Recompute::block_split})
    if (name == name_of(what)) return what;
  fail("there is no recomputation \"", name, "\": name one of none, attention, block, block_split");
}

/// The order in which gradients are added up. One rank that adds like many computes their bits: an accumulator for each of
/// `data_ranks`, which take the micro-batches in turn; and with `stages`, the embedding's gradient apart from the head's.
struct AddLike {
  int data_ranks = 1;
  bool stages = false;
};

struct TrainingConfig {
  std::uint64_t seed = 1234;  // of the initial weights and of dropout
  LearningRate learning_rate = {};
  BatchSize batch = {};
  int micro_batch = 8;  // rows computed at once
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1;  // of a run that is loaded its own go on, as do its rates, shrink and clip: Trainer::levers() changes them
  double clip = 1.0;                                                 // largest global gradient norm; 0: it is not clipped
  EmbeddingShrink shrink = {};
  LossScale loss_scale = {};
  SentinelConfig sentinel = {};
  Recompute recompute = Recompute::none;
  PipelineSchedule schedule = PipelineSchedule::one_f_one_b;
  int chunks = 1;       // runs of layers on each pipeline rank; above 1 with PipelineSchedule::interleaved only
  int zero = 0;         // 1: ZeRO-1, master weights and moments are cut among the data ranks
  std::int64_t head_tokens = 0;  // whose logits are held at once; 0: as many as take 16 MiB, which suits a CPU's caches; fewer than thousands do not fill a GPU
  int check_every = 0;  // steps between comparisons of what ranks hold alike; 0: never
  AddLike add_like = {};  // of a run on one rank
  bool check_numbers = false;  // for debugging: the first NaN or infinity of weights, blocks and gradients is an error that says where; waits for the device at each
};

// clang-format off
/// The launch configuration of GLM-130B (spec 4.2, Appendix A; section 9 decides where its sources differ): all of it, defaults too.
inline constexpr TrainingConfig glm_130b_training{
    .seed = 1234,
    .learning_rate = {.peak = 8e-5, .min = 8e-6,
                      .warmup_samples = 1'098'632,                                   // 0.5% of 219,726,562 rows
                      .decay_samples = 197'753'905},                                 // 90%
    .batch = {.full = 4224, .start = 192, .increment = 24, .ramp_samples = 5'493'164},  // 2.5%
    .micro_batch = 1,
    .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1,                   // AdamW; biases and norms do not decay
    .clip = 1.0,
    .shrink = {.alpha = 0.1, .ramp_from = 6000, .ramp_steps = 500},                  // spec 4.3
    .loss_scale = {.initial = 65536, .min = 1, .window = 200, .hysteresis = 2},      // Table 11 prints 2000: section 9 item 9
    .recompute = Recompute::block_split,                                             // checkpoint_activations, partition_activations
    .schedule = PipelineSchedule::one_f_one_b,
    .chunks = 1,
    .zero = 1,
    .head_tokens = 2048};                                                            // a micro-batch, as the original
// clang-format on

}  // namespace golem
