// Which layout of a run would be faster on the same machines: all that fit are estimated, and the best of them simulated.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "golem/config/simulate.hpp"

namespace golem {

/// What a search may change beside the degrees, the micro-batch and sequence parallelism.
struct Freedom {
  bool schedule = true;
  bool recompute = true;
};

struct LayoutChoice {
  PlannedRun run;
  StepOnPaper step;
};

/// Seconds of a step by the formula of its schedule's bubble, and the busiest stage's work; transfers are not in it.
inline double estimated_seconds(const PlannedRun& run) {
  const Layout& l = run.layout;
  const TrainingConfig& t = run.training;
  const MicroBatch n = micro_batch_of(run.model, run.types, l, t);
  double busiest = 0, update = 0;
  for (int stage = 0; stage < l.pp; ++stage) {
    double work = 0, parameters = 0;
    for (int chunk = 0; chunk < t.chunks; ++chunk) {
      const Stage part = stage_of(run.model, l.pp, t.chunks, stage, chunk);
      work += action_times(run.model, run.types, part, l, t.recompute, n, run.hardware, run.efficiency).total();
      parameters += static_cast<double>(parameter_count(run.model, part, l.tp));
    }
    const UpdateTimes times = update_times(run.types, parameters, l, t.zero, run.hardware, run.efficiency);
    busiest = larger(busiest, work), update = larger(update, times.optimizer + times.gather + (run.overlapped_reduction ? 0 : times.reduce));
  }
  const int micro_batches = micro_batches_of(t, l);
  return busiest * micro_batches / (1 - bubble(t.schedule, l.pp, t.chunks, micro_batches)) + update;
}

/// Layouts of the same number of ranks, with the same rows a step, that can be and fit the machine: tensor degrees that divide its GPUs,
/// every number of stages, and micro-batches of 1, 2, 4, 8 rows or as many as the run has.
inline std::vector<PlannedRun> possible_layouts(const PlannedRun& run, Freedom freedom) {
  struct Order {
    PipelineSchedule kind;
    int chunks;
  };
  std::vector<Order> orders{{run.training.schedule, run.training.chunks}};
  if (freedom.schedule)
    orders = {{PipelineSchedule::gpipe, 1},       {PipelineSchedule::one_f_one_b, 1}, {PipelineSchedule::zero_bubble, 1},
              {PipelineSchedule::interleaved, 2}, {PipelineSchedule::interleaved, 3}, {PipelineSchedule::interleaved, 4}};
  std::vector<Recompute> recomputations{run.training.recompute};
  if (freedom.recompute) recomputations = {Recompute::none, Recompute::attention, Recompute::block, Recompute::block_split};

  std::vector<PlannedRun> found;
  const int ranks = run.layout.ranks();
  std::vector<int> micro_batches{1, 2, 4, 8};
  if (std::find(micro_batches.begin(), micro_batches.end(), run.training.micro_batch) == micro_batches.end()) micro_batches.push_back(run.training.micro_batch);
  for (int tp = 1; tp <= smaller(ranks, run.hardware.per_node); ++tp)
    for (int pp = 1; pp <= run.model.layers + 2; ++pp) {
      if (run.hardware.per_node % tp || ranks % (tp * pp)) continue;
      for (const int micro_batch : micro_batches)
        for (const Order& order : orders)
          for (const Recompute recompute : recomputations)
            for (const bool cut : {false, true}) {
              if (tp == 1 && (cut || recompute == Recompute::block_split)) continue;
              PlannedRun one = run;
              one.layout = {tp, pp, ranks / (tp * pp), cut};
              one.training.micro_batch = micro_batch, one.training.schedule = order.kind, one.training.chunks = order.chunks,
              one.training.recompute = recompute;
              if (problem_of(one).empty() && fits(one.model, one.types, one.layout, one.hardware, one.training)) found.push_back(one);
            }
    }
  return found;
}

/// The `count` fastest of them, fastest first; none where nothing fits.
inline std::vector<LayoutChoice> better_layouts(const PlannedRun& run, Freedom freedom, std::size_t count = 1) {
  struct Candidate {
    double seconds;
    std::size_t index;
  };
  const std::vector<PlannedRun> runs = possible_layouts(run, freedom);
  std::vector<Candidate> candidates;
  for (std::size_t i = 0; i < runs.size(); ++i) candidates.push_back({estimated_seconds(runs[i]), i});
  std::stable_sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) { return a.seconds < b.seconds; });
  candidates.resize(smaller(candidates.size(), 16 + 2 * count));  // the estimate leaves out transfers, a few percent
  std::vector<LayoutChoice> choices;
  for (const Candidate& candidate : candidates) choices.push_back({runs[candidate.index], simulate(runs[candidate.index])});
  std::stable_sort(choices.begin(), choices.end(), [](const LayoutChoice& a, const LayoutChoice& b) { return a.step.seconds < b.step.seconds; });
  choices.resize(smaller(choices.size(), count));
  return choices;
}

}  // namespace golem
