// Pipeline schedules as data: what each stage does, in order, with each micro-batch of a step.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/math.hpp"

namespace golem {

enum class PipelineSchedule : std::uint8_t {
  gpipe,        // all forwards, then all backwards
  one_f_one_b,  // PipeDream-Flush: a stage holds at most as many micro-batches as stages follow it, and itself (spec 4.1)
  interleaved,  // 1F1B over several chunks of layers on each rank
  zero_bubble,  // ZB-H1: 1F1B whose weight gradients fill the bubble
};

constexpr const char* name_of(PipelineSchedule kind) {
  constexpr const char* names[]{"gpipe", "1f1b", "interleaved", "zero_bubble"};
  return names[static_cast<int>(kind)];
}

/// The schedule of that name. Throws Error where there is none.
inline PipelineSchedule schedule_named(std::string_view name) {
  for (const auto kind : {PipelineSchedule::gpipe, PipelineSchedule::one_f_one_b, PipelineSchedule::interleaved, PipelineSchedule::zero_bubble})
    if (name == name_of(kind)) return kind;
  fail("there is no pipeline schedule \"", name, "\": name one of gpipe, 1f1b, interleaved, zero_bubble");
}

/// One thing that a stage does. Receiving what it needs from the stage before or behind is part of it, and so is sending.
struct PipelineAction {
  enum class Work : std::uint8_t {
    forward,
    backward,         // gradients of the input and of the weights
    backward_input,   // of the input alone
    backward_weight,  // of the weights alone, some time after
  };
  Work work = Work::forward;
  int chunk = 0;  // which of the rank's chunks of layers; chunk c of rank r is virtual stage c * stages + r
  int micro_batch = 0;
  friend bool operator==(const PipelineAction&, const PipelineAction&) = default;
};

/// Throws Error where the schedule does not exist for these numbers.
inline void require_schedule(PipelineSchedule kind, int stages, int chunks, int micro_batches) {
  require(stages >= 1 && micro_batches >= 1, "a pipeline schedule was asked for with ", stages, " stages and ", micro_batches,
          " micro-batches: both must be at least 1");
  if (kind != PipelineSchedule::interleaved) {
    require(chunks == 1, "the schedule ", name_of(kind), " was asked for with ", chunks, " chunks: set chunks to 1, or the schedule to interleaved");
    return;
  }
  require(chunks >= 2 && chunks <= 4, "the schedule interleaved was asked for with ", chunks,
          " chunks: set chunks to 2, 3 or 4, or the schedule to 1f1b");
  require(micro_batches % stages == 0, "the schedule interleaved was asked for with ", micro_batches, " micro-batches on ", stages,
          " stages: make the micro-batches a multiple of the stages, ", round_up(micro_batches, stages), " say, or the schedule 1f1b");
}

/// Forwards of a stage before it takes turns, a forward and a backward, or, with GPipe, before its first backward: the time in which its
/// first micro-batch comes back to it.
constexpr std::int64_t warm_up(PipelineSchedule kind, int stages, int chunks, int micro_batches, int stage) {
  const std::int64_t behind = stages - 1 - stage, all = std::int64_t{micro_batches} * chunks;
  if (kind == PipelineSchedule::gpipe) return all;
  return smaller(all, kind == PipelineSchedule::interleaved ? 2 * behind + std::int64_t{chunks - 1} * stages : behind);
}

/// What stage `stage` does in a step, in order. Both directions of every schedule take the micro-batches of a chunk in ascending
/// order, so weight gradients are added up in the order in which one rank alone would. Interleaved: groups of `stages`
/// micro-batches go through all chunks, one chunk after the other, backward from the last chunk. ZB-H1: the weight
/// gradients of a micro-batch come `stage` micro-batches after its input gradients. Throws Error by require_schedule.
inline std::vector<PipelineAction> pipeline_schedule(PipelineSchedule kind, int stages, int chunks, int micro_batches, int stage) {
  using Work = PipelineAction::Work;
  require_schedule(kind, stages, chunks, micro_batches);
  require(stage >= 0 && stage < stages, "a schedule was asked for stage ", stage, " of ", stages, ": stages count from 0");
  const bool apart = kind == PipelineSchedule::zero_bubble;
  const std::int64_t all = std::int64_t{micro_batches} * chunks, ahead = warm_up(kind, stages, chunks, micro_batches, stage);
  std::vector<PipelineAction> actions;
  actions.reserve(static_cast<std::size_t>(all * (apart ? 3 : 2)));
  const auto add = [&](Work work, std::int64_t n) {  // the n-th of its kind
    if (n < 0 || n >= all) return;
    const int group = static_cast<int>(n / (std::int64_t{stages} * chunks)), chunk = static_cast<int>(n / stages % chunks);
    if (chunks == 1)
      actions.push_back({work, 0, static_cast<int>(n)});
    else
      actions.push_back({work, work == Work::forward ? chunk : chunks - 1 - chunk, group * stages + static_cast<int>(n % stages)});
  };
  for (std::int64_t n = 0; n < ahead; ++n) add(Work::forward, n);
  for (std::int64_t n = 0; n < all; ++n) {
    add(Work::forward, ahead + n);
    add(apart ? Work::backward_input : Work::backward, n);
    if (apart) add(Work::backward_weight, n - stage);
  }
  if (apart)
    for (std::int64_t n = larger<std::int64_t>(0, all - stage); n < all; ++n) add(Work::backward_weight, n);
  return actions;
}

/// The most pairs of a chunk and a micro-batch whose activations a stage holds at once: from their forward to the end of their
/// backward, of the weights where that is apart. ZB-H1: on every stage what 1F1B has on its first, which is 1F1B's most.
constexpr int activations_in_flight(PipelineSchedule kind, int stages, int chunks, int micro_batches, int stage) {
  if (kind == PipelineSchedule::zero_bubble) return smaller(micro_batches, stages);
  return static_cast<int>(smaller(std::int64_t{micro_batches} * chunks, warm_up(kind, stages, chunks, micro_batches, stage) + 1));
}

/// The most pairs whose input gradients a stage has and whose weight gradients it still lacks: 0 where both come at once.
constexpr int weight_gradients_in_flight(PipelineSchedule kind, int, int, int micro_batches, int stage) {
  return kind == PipelineSchedule::zero_bubble ? smaller(micro_batches, stage + 1) : 0;
}

/// The part of a step in which a stage waits, stages being alike and transfers free: (p-1)/(m+p-1) for GPipe and 1F1B (spec 4.1),
/// (p-1)/(mv+p-1) interleaved. ZB-H1 waits p-1 forwards, (p-1)/(3m+p-1), where backward takes two forwards, half of it for
/// the weights, and there are at least as many micro-batches as stages.
constexpr double bubble(PipelineSchedule kind, int stages, int chunks, int micro_batches) {
  const double work = static_cast<double>(micro_batches) * (kind == PipelineSchedule::zero_bubble   ? 3
                                                            : kind == PipelineSchedule::interleaved ? chunks
                                                                                                    : 1);
  return (stages - 1) / (work + stages - 1);
}

}  // namespace golem
