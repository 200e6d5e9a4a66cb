// A training step on two ranks, each on one thread, beside the same step on one rank with two threads, taken in turn.
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "golem/comm/threads.hpp"
#include "golem/golem.hpp"
#include "limits.hpp"

namespace {

using golem::Layout, golem::PipelineSchedule;

struct Model {
  static constexpr auto config = golem::checked({.layers = 6, .hidden = 384, .heads = 6, .ffn = 1024, .vocab = 4096, .context = 128, .embedding_std = 0.02});
};

constexpr int rows = 8, micro_batch = 1, steps = 7;

struct Case {
  Layout layout;
  PipelineSchedule schedule = PipelineSchedule::one_f_one_b;
  int chunks = 1, zero = 0;
};

golem::TrainingConfig config_of(const Case& c) { return {.batch = {.full = rows}, .micro_batch = micro_batch, .schedule = c.schedule, .chunks = c.chunks, .zero = c.zero}; }

/// A row of one [gMASK] window whose second half is scored.
golem::Batch batch_of(int count) {
  const int length = Model::config.context;
  golem::Batch batch{.rows = count, .length = length, .first_window = {0}};
  for (int r = 0; r < count; ++r) {
    for (int t = 0; t < length; ++t) {
      batch.tokens.push_back((t * 37 + r * 11) % Model::config.vocab), batch.positions.push_back(t);
      batch.targets.push_back(t < length / 2 ? -1 : (t * 53 + r) % Model::config.vocab);
    }
    batch.windows.push_back({0, length, length / 2});
    batch.first_window.push_back(r + 1);
    batch.tasks.push_back(golem::Task::generation);
  }
  return batch;
}

/// What a rank's transfers have cost it, in seconds, or in parts of a step.
struct Waits {
  double exposed = 0;     // waited for other ranks
  double overlapped = 0;  // collectives that ran meanwhile

  Waits& add(const Waits& other, double times) {
    exposed += times * other.exposed, overlapped += times * other.overlapped;
    return *this;
  }
};

Waits waits_of(golem::World& world) {
  Waits all;
  for (const golem::AxisCount& count : world.counts()) all.exposed += count.total().seconds, all.overlapped += count.total().overlapped;
  return all;
}

struct Times {
  std::vector<double> alone, layout, reduction;  // seconds: a step of each; the data ranks' all-reduce of all gradients alone
  Waits waits;                                   // shares of the steps, mean over ranks
};

template <int Tp>
void run(const Case& c, golem::Group all, Times& times, std::mutex& mutex) {
  golem::World world(all, c.layout);
  world.count();
  golem::cpu::Device device({.threads = 1}), both({.threads = 2});
  golem::TrainerCore<Model, golem::fp32, Tp, golem::cpu::Device> trainer(device, config_of(c), world);
  std::optional<golem::Trainer<Model>> alone;
  if (world.rank() == 0) alone.emplace(both, config_of({}));
  golem::Batch batch = batch_of(micro_batch);
  const auto source = [&](int count) -> const golem::Batch& {
    if (batch.rows != count) batch = batch_of(count);
    return batch;
  };
  golem::Buffer<float, golem::cpu::Device> gradients(device, trainer.gradients().size(), "gradients");
  Waits waits;
  double whole = 0;
  for (int step = 0; step < steps + 1; ++step) {  // the first one warms up
    double start = limits::now();
    if (alone) alone->step(source);
    const double one = limits::now() - start;
    world.all().barrier();
    const Waits before = waits_of(world);
    start = limits::now();
    trainer.step(source);
    const double many = limits::now() - start;
    const Waits behind = waits_of(world);
    world.all().barrier();
    start = limits::now();
    world.data().all_reduce(gradients.view(), golem::Reduce::sum);
    const double reduction = limits::now() - start;
    if (step == 0) continue;
    waits.add(behind, 1).add(before, -1), whole += many;
    if (world.rank() > 0) continue;
    times.alone.push_back(one), times.layout.push_back(many), times.reduction.push_back(reduction);
  }
  const std::lock_guard lock(mutex);
  times.waits.add(waits, 1 / whole / c.layout.ranks());
}

void layout(benchmark::State& state, Case c) {
  Times times;
  std::mutex mutex;
  for (auto _ : state) {
    golem::run_ranks(c.layout.ranks(), [&](golem::Group all) {
      if (c.layout.tp == 1) run<1>(c, all, times, mutex);
      else run<2>(c, all, times, mutex);
    });
    state.SetIterationTime(limits::median(times.layout));
  }
  const double alone = limits::median(times.alone), step = limits::median(times.layout);
  state.counters["ms_one_rank"] = 1e3 * alone;
  state.counters["ms"] = 1e3 * step;
  state.counters["efficiency"] = alone / step;
  if (c.layout.pp > 1) {  // stages wait for each other, and at the end for the tied gradient and the norm: bubble, transfers, and unlike work
    state.counters["bubble"] = times.waits.exposed;
    state.counters["bubble_formula"] = golem::bubble(c.schedule, c.layout.pp, c.chunks, rows / micro_batch);
    return;
  }
  state.counters["exposed"] = times.waits.exposed;  // transfers, and work that is dealt out unevenly
  state.counters["overlapped"] = times.waits.overlapped;
  if (c.layout.dp > 1) state.counters["reduction"] = limits::median(times.reduction) / step;  // alone: what would be exposed if nothing overlapped
}

void add(const char* name, Case c) { benchmark::RegisterBenchmark(name, layout, c)->UseManualTime()->Iterations(1)->Unit(benchmark::kMillisecond); }

}  // namespace

int main(int argc, char** argv) {
  add("dp2", {.layout = {.dp = 2}});
  add("dp2_zero1", {.layout = {.dp = 2}, .zero = 1});
  add("tp2", {.layout = {.tp = 2}});
  add("tp2_sequence_parallel", {.layout = {.tp = 2, .sequence_parallel = true}});
  add("pp2_gpipe", {.layout = {.pp = 2}, .schedule = PipelineSchedule::gpipe});
  add("pp2_1f1b", {.layout = {.pp = 2}});
  add("pp2_interleaved2", {.layout = {.pp = 2}, .schedule = PipelineSchedule::interleaved, .chunks = 2});
  add("pp2_zero_bubble", {.layout = {.pp = 2}, .schedule = PipelineSchedule::zero_bubble});
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
