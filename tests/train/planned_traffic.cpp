// What ranks send in a step is what the plan of its traffic says, axis by axis, for each way of cutting and of computing again.
// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <vector>

#include "catch.hpp"
#include "golem/config/stages.hpp"
#include "golem/config/step_time.hpp"
#include "train/counted_run.hpp"

using namespace layouts;

namespace {

/// What a rank sends around a ring for what it asked for along one axis.
double sent(const std::vector<AxisCount>& counts, const std::string& axis, int ranks) {
  using Kind = Transfer::Kind;
  const auto bytes = [&](Kind kind) { return static_cast<double>(counted(counts, axis, kind).bytes); };
  return all_reduce_bytes(bytes(Kind::all_reduce), ranks) + (ranks - 1) * (bytes(Kind::reduce_scatter) + bytes(Kind::all_gather)) + bytes(Kind::send);
}

}  // namespace

TEST_CASE("ranks that share a model exchange the batches' integers, and all ranks one list of numbers a step") {
  using Kind = Transfer::Kind;
  const Layout layout{.tp = 2, .pp = 2, .dp = 2};
  const std::int64_t batches = rows / micro_batch / layout.dp, norms = tensor_count(Model::config), losses = 4 + 2 * task_count;
  // Of each batch: its shape; tokens, positions, targets; two windows a row, of five numbers; where they begin, and the task.
  const std::int64_t integers = 1 + batches * (3 + micro_batch * (3 * length + 2 * 5 + 1) + micro_batch + 1);
  for (const auto& counts : run_fp64({.layout = layout, .training = counted_run, .steps = 1}).counts) {
    CHECK(counted(counts, "model", Kind::broadcast).calls == 2);
    CHECK(counted(counts, "model", Kind::broadcast).bytes == 8 + 4 * integers);
    CHECK(counted(counts, "world", Kind::all_reduce).calls == 1);
    CHECK(counted(counts, "world", Kind::all_reduce).bytes == 8 * (norms + losses));
    for (const AxisCount& axis : counts)
      if (axis.axis == "world" || axis.axis == "model") CHECK(axis.total().calls == (axis.axis == "world" ? 1 : 2));
  }
}

TEST_CASE("what a plan says of a step's bytes is what ranks send") {
  const ModelConfig& c = Model::config;
  std::vector<Run> runs;
  for (const auto recompute : {Recompute::none, Recompute::attention, Recompute::block, Recompute::block_split})
    for (const bool cut : {false, true}) {
      Run run{.layout = {.tp = 2, .sequence_parallel = cut}, .training = counted_run, .steps = 1};
      run.training.recompute = recompute;
      runs.push_back(run);
      run.layout.pp = run.layout.dp = 2;
      run.training.zero = cut;
      runs.push_back(run);
    }
  runs.push_back({.layout = {.tp = 2, .pp = 2}, .training = counted_run, .steps = 1});
  runs.back().training.schedule = PipelineSchedule::interleaved, runs.back().training.chunks = 2;
  for (Run& run : runs) {
    run.all_scored = true;
    const Layout& l = run.layout;
    INFO("pp " << l.pp << " dp " << l.dp << " cut " << l.sequence_parallel << " recompute " << golem::name_of(run.training.recompute) << " zero " << run.training.zero << " chunks " << run.training.chunks);
    const Outcome outcome = run_fp64(run);
    for (int rank = 0; rank < l.ranks(); ++rank) {
      const int stage = rank / l.tp / l.dp;
      const auto& counts = outcome.counts[static_cast<std::size_t>(rank)];
      const StepTraffic planned = step_traffic(c, types_of<fp64>(), l, run.training, stage);
      std::vector<Stage> parts;
      for (int chunk = 0; chunk < run.training.chunks; ++chunk) parts.push_back(stage_of(c, l.pp, run.training.chunks, stage, chunk));
      double few = 0, parameters = 0;  // numbers that the plan leaves out: three of each scored token; gradients of norms
      for (const Stage& part : parts) {
        if (part.head) few += 3.0 * rows / l.dp * length;
        if (l.sequence_parallel) few += (4.0 * (part.last - part.first) + 2 * part.head) * c.hidden;
        parameters += static_cast<double>(parameter_count(c, part, l.tp));
      }
      const FlatLayout layout(c, parts, l.tp, run.training.zero ? l.dp : 1);  // whole cache lines
      CHECK(sent(counts, "tensor", l.tp) == Approx(planned.tensor + all_reduce_bytes(few * element, l.tp)));
      CHECK(sent(counts, "data", l.dp) == Approx(planned.data * static_cast<double>(layout.size()) / parameters));
      CHECK(sent(counts, "pipeline", l.pp) == Approx(planned.pipeline));
      CHECK(sent(counts, "tied", 2) == Approx(planned.tied));
    }
  }
}

TEST_CASE("with ZeRO-1 a rank adds up what it owns of the tied embedding") {
  for (const int zero : {0, 1}) {
    Run run{.layout = {.pp = 2, .dp = 2}, .training = counted_run, .steps = 1};
    run.training.zero = zero;
    for (const auto& counts : run_fp64(run).counts)
      CHECK(static_cast<double>(counted(counts, "tied", Transfer::Kind::all_reduce).bytes) == tied_bytes(Model::config, types_of<fp64>(), run.layout, run.training));
  }
}
