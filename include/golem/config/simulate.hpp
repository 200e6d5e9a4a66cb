// The cluster on paper: a training step of a layout on a machine, by running the schedule that the trainer runs.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "golem/config/pipeline_run.hpp"
#include "golem/config/plan.hpp"
#include "golem/config/step_time.hpp"
#include "golem/core/random.hpp"

namespace golem {

/// Ranks that are slower than others: a function of the seed, and of nothing else.
struct Stragglers {
  double slow_ranks = 0;  // the part of all ranks that is slow all the time
  double slowdown = 0.1;  // by how much: 0.1 takes 1.1 times as long
  double jitter = 0;      // mean of what each action of each rank takes longer, exponentially distributed, as a part of its time
  std::uint64_t seed = 1;
  constexpr bool any() const { return slow_ranks > 0 || jitter > 0; }
};

/// All that a step's time depends on.
struct PlannedRun {
  ModelConfig model;
  TrainingTypes types;
  Layout layout;
  TrainingConfig training;
  Hardware hardware;
  Efficiency efficiency = {};
  Stragglers stragglers = {};
  bool overlapped_reduction = true;  // gradients are reduced during the last backward
};

/// A step on paper; seconds, and parts of 1. What is exposed of a kind is the time in which the busiest stage waits for it alone.
struct StepOnPaper {
  double seconds = 0;
  double pipeline = 0;  // until the last stage has its gradients
  double bubble = 0;    // the part of that in which a stage waits for others, transfers free
  double exposed_tensor = 0, exposed_pipeline = 0, exposed_data = 0;
  double optimizer = 0;
  double stragglers = 0;    // what they cost
  double flops = 0;         // with what is computed again
  double hfu = 0, mfu = 0;  // utilisation with and without it (spec 4.4)
  double tokens_per_second = 0;
  int micro_batches = 0;
  PipelineRun run;  // of the slowest data rank
};

/// Why a run cannot be, as a sentence that says what to change; empty where it can.
inline std::string problem_of(const PlannedRun& run) {
  const ModelConfig& c = run.model;
  const Layout& l = run.layout;
  const TrainingConfig& t = run.training;
  if (l.tp < 1 || l.pp < 1 || l.dp < 1 || t.micro_batch < 1)
    return sentence("tp ", l.tp, ", pp ", l.pp, ", dp ", l.dp, " and micro-batches of ", t.micro_batch, " rows: all must be at least 1");
  if (c.key_heads() % l.tp || c.ffn % l.tp || c.vocab % l.tp)
    return sentence("tp ", l.tp, " does not divide the model's ", c.key_heads() == c.heads ? "" : "key ", "heads, ffn and vocabulary (", c.key_heads(), ", ", c.ffn, ", ", c.vocab, "): lower it");
  if (std::int64_t{l.pp} * t.chunks > c.layers + 2)
    return sentence(l.pp, " stages of ", t.chunks, " chunks are more than the model's ", c.layers + 2,
                    " layers, embedding and head included: lower pp or chunks");
  if (t.chunks > 1 && l.pp == 1)
    return sentence("chunks of layers, ", t.chunks, " on each rank, without a pipeline: set chunks to 1, or pp above 1");
  if (t.batch.full < 1 || t.batch.full % (std::int64_t{t.micro_batch} * l.dp))
    return sentence("a batch of ", t.batch.full, " rows is no multiple of dp ", l.dp, " x micro-batch ", t.micro_batch, ": change one of them");
  if (run.hardware.rate(run.types.compute) <= 0)
    return sentence("a ", run.hardware.name, " cannot multiply ", name_of(run.types.compute), ": choose another type");
  try {
    require_schedule(t.schedule, l.pp, t.chunks, micro_batches_of(t, l));
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

/// Simulates steps of one run; the schedule and the times of the stages are made once.
class StepSimulator {
 public:
  /// Throws Error with problem_of(run).
  explicit StepSimulator(const PlannedRun& run) : run_(run) {
    const std::string problem = problem_of(run);
    require(problem.empty(), "a training step cannot be simulated: ", problem);
    const ModelConfig& c = run.model;
    const Layout& l = run.layout;
    const MicroBatch n = micro_batch_of(c, run.types, l, run.training);
    micro_batches_ = micro_batches_of(run.training, l);
    lists_ = pipeline_schedules(run.training.schedule, l.pp, run.training.chunks, micro_batches_);
    for (int stage = 0; stage < l.pp; ++stage) {
      double parameters = 0;
      for (int chunk = 0; chunk < run.training.chunks; ++chunk) {
        const Stage part = stage_of(c, l.pp, run.training.chunks, stage, chunk);
        times_.push_back(action_times(c, run.types, part, l, run.training.recompute, n, run.hardware, run.efficiency));
        parameters += static_cast<double>(parameter_count(c, part, l.tp));
        blocks_.push_back(part.last - part.first);
      }
      updates_.push_back(update_times(run.types, parameters, l, run.training.zero, run.hardware, run.efficiency));
    }
    const Link wire = links_of(run.hardware, l, run.efficiency.links).pipeline;
    travel_ = send_seconds(static_cast<double>(n.own * c.hidden * n.compute), wire);
    if (l.pp > 1) tied_ = all_reduce_seconds(tied_bytes(c, run.types, l, run.training), 2, wire);
  }

  StepOnPaper step() const {
    const Layout& l = run_.layout;
    StepOnPaper result;
    const PipelineRun free = pipeline(0, 0, {}), calm = pipeline(0, travel_, {});
    const double calm_step = finish(calm, ends_of(calm), result);
    result.run = calm;
    if (run_.stragglers.any()) {
      std::vector<double> ends(static_cast<std::size_t>(l.pp), 0);
      double slowest = 0;
      for (int data = 0; data < l.dp; ++data) {
        PipelineRun one = pipeline(data, travel_, run_.stragglers);
        const std::vector<double> own = ends_of(one);
        for (std::size_t stage = 0; stage < ends.size(); ++stage) ends[stage] = larger(ends[stage], own[stage]);
        if (one.seconds > slowest) slowest = one.seconds, result.run = std::move(one);
      }
      result.stragglers = finish(result.run, ends, result) - calm_step;
    }
    result.bubble = free.bubble();
    result.exposed_pipeline = calm.seconds - free.seconds;
    result.exposed_tensor = exposed_tensor();
    result.micro_batches = micro_batches_;
    const TrainingConfig& t = run_.training;
    const double peak = run_.hardware.rate(run_.types.compute);
    result.flops = training_flops(run_.model, run_.model.context, t.batch.full, t.recompute);
    result.hfu = utilisation(run_.model, t.batch.full, t.recompute, result.seconds, l.ranks(), peak);
    result.mfu = utilisation(run_.model, t.batch.full, Recompute::none, result.seconds, l.ranks(), peak);
    result.tokens_per_second = static_cast<double>(t.batch.full) * run_.model.context / result.seconds;
    return result;
  }

 private:
  using Work = PipelineAction::Work;

  const ActionTimes& times(int stage, int chunk) const { return times_[static_cast<std::size_t>(stage * run_.training.chunks + chunk)]; }

  static double seconds_of(const ActionTimes& t, Work work) {
    if (work == Work::forward) return t.forward;
    if (work == Work::backward_input) return t.backward_input;
    return work == Work::backward_weight ? t.backward_weight : t.backward_input + t.backward_weight;
  }

  /// The pipeline of one data rank. Tensor ranks wait for the slowest of them after every product, so an action takes as long as its.
  PipelineRun pipeline(int data, double travel, const Stragglers& stragglers) const {
    const Layout& l = run_.layout;
    std::vector<double> slow(static_cast<std::size_t>(l.pp), 1.0);
    const Random draws{stragglers.seed, stream_of("slow ranks")}, noise{stragglers.seed, stream_of("jitter")};
    for (int stage = 0; stage < l.pp && stragglers.slow_ranks > 0; ++stage)
      for (int tensor = 0; tensor < l.tp; ++tensor)
        if (draws.uniform(static_cast<std::uint64_t>((stage * l.dp + data) * l.tp + tensor)) < stragglers.slow_ranks)
          slow[static_cast<std::size_t>(stage)] = 1 + stragglers.slowdown;
    std::vector<std::uint64_t> done(slow.size(), 0);
    const auto seconds = [&](int stage, const PipelineAction& action) {
      double factor = slow[static_cast<std::size_t>(stage)];
      if (stragglers.jitter > 0) {  // the largest of tp exponential draws, by one draw of its distribution
        const std::uint64_t number = done[static_cast<std::size_t>(stage)]++, place = static_cast<std::uint64_t>(data * l.pp + stage);
        factor += stragglers.jitter * -std::log1p(-std::pow(noise.uniform(place << 32 | number), 1.0 / l.tp));
      }
      return factor * seconds_of(times(stage, action.chunk), action.work);
    };
    return run_pipeline(lists_, run_.training.chunks, micro_batches_, {}, seconds, [&](int, int) { return travel; });
  }

  static std::vector<double> ends_of(const PipelineRun& run) {
    std::vector<double> ends;
    for (const auto& stage : run.stages) ends.push_back(stage.back().end);
    return ends;
  }

  /// Adds what follows the pipeline, given when each stage has its gradients. All wait for the global norm before they move weights.
  double finish(const PipelineRun& run, const std::vector<double>& ends, StepOnPaper& result) const {
    double reduced = 0, updated = 0, optimizer = 0;
    result.pipeline = 0;
    for (std::size_t stage = 0; stage < ends.size(); ++stage) {
      const auto& last = run.stages[stage].back();
      const double blocks = larger(1, blocks_[stage * static_cast<std::size_t>(run_.training.chunks)]);
      const double window = run_.overlapped_reduction && run_.layout.dp > 1 ? (last.end - last.start) * (blocks - 1) / blocks : 0;
      const bool tied = stage == 0 || stage + 1 == ends.size();
      reduced = larger(reduced, ends[stage] + larger(0.0, updates_[stage].reduce - window) + (tied ? tied_ : 0));
      updated = larger(updated, updates_[stage].optimizer + updates_[stage].gather);
      optimizer = larger(optimizer, updates_[stage].optimizer);
      result.pipeline = larger(result.pipeline, ends[stage]);
    }
    result.optimizer = optimizer;
    result.seconds = reduced + updated;
    result.exposed_data = result.seconds - result.pipeline - optimizer;
    return result.seconds;
  }

  double exposed_tensor() const {
    double most = 0;
    for (int stage = 0; stage < run_.layout.pp; ++stage) {
      double sum = 0;
      for (int chunk = 0; chunk < run_.training.chunks; ++chunk) sum += times(stage, chunk).tensor();
      most = larger(most, sum);
    }
    return most * micro_batches_;
  }

  PlannedRun run_;
  int micro_batches_ = 1;
  std::vector<std::vector<PipelineAction>> lists_;
  std::vector<ActionTimes> times_;  // (stage, chunk)
  std::vector<int> blocks_;
  std::vector<UpdateTimes> updates_;  // (stage)
  double travel_ = 0, tied_ = 0;
};

/// A step of a run. Throws Error where the run cannot be.
inline StepOnPaper simulate(const PlannedRun& run) { return StepSimulator(run).step(); }

/// The run with the rate of its products chosen so that a step takes `seconds`; everything else stays. Throws Error where no
/// rate from a hundredth of the peak up to the peak does.
inline PlannedRun fitted(PlannedRun run, double seconds) {
  double low = 0.01, high = 1;
  for (const double rate : {low, high}) {
    run.efficiency.products = rate;
    const double takes = simulate(run).seconds;
    require(rate == high ? takes <= seconds : takes >= seconds, "a run was to be fitted to ", seconds, " s a step, but takes ", takes, rate == high ? " s at" : " s at a hundredth of",
            " the machine's peak: its description or the seconds are wrong");
  }
  for (int i = 0; i < 40; ++i) {
    run.efficiency.products = 0.5 * (low + high);
    (simulate(run).seconds > seconds ? low : high) = run.efficiency.products;
  }
  return run;
}

}  // namespace golem
