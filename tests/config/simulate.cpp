// The cluster on paper: fitted on one of the original's batches, it predicts the other; and its parts add up.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/simulate.hpp"

#include <chrono>

#include "catch.hpp"

using namespace golem;

namespace {

/// The original: fp16 gradients, reduced when the backward passes are done (spec 4.1, 4.2).
PlannedRun original() {
  return {.model = glm_130b::config,
          .types = {DType::f16, DType::f32, DType::f16},
          .layout = {.tp = 4, .pp = 8, .dp = 24},
          .training = glm_130b_training,
          .hardware = a100_40gb,
          .overlapped_reduction = false};
}

PlannedRun with_schedule(PlannedRun run, PipelineSchedule kind, int chunks = 1) {
  run.training.schedule = kind, run.training.chunks = chunks;
  return run;
}

}  // namespace

TEST_CASE("fitted on the batch of 4224, the batch of 6144 is predicted within 5%") {
  PlannedRun run = fitted(original(), 88.5);
  const StepOnPaper small = simulate(run);
  CHECK(small.seconds == Approx(88.5).epsilon(1e-6));
  CHECK(small.micro_batches == 176);
  CHECK(small.hfu == Approx(0.430).margin(0.0005));  // spec 4.4
  CHECK(small.mfu == Approx(0.324).margin(0.0005));
  CHECK(small.flops == Approx(9.12e18).epsilon(1e-3));
  CHECK(small.tokens_per_second == Approx(97.7e3).epsilon(1e-3));
  CHECK(small.flops / small.seconds / 768 == Approx(134e12).epsilon(5e-3));
  CHECK((run.efficiency.products > 0.4 && run.efficiency.products < 0.7));  // what 2022's kernels may have reached
  run.training.batch.full = 6144;
  CHECK(simulate(run).seconds == Approx(122.5).epsilon(0.05));
}

TEST_CASE("a pipeline takes what its busiest stage does, and the formula's bubble at most") {
  PlannedRun run = original();
  run.hardware.between = {1e18, 0};
  const MicroBatch n = micro_batch_of(run.model, run.types, run.layout, run.training);
  for (const auto kind : {PipelineSchedule::gpipe, PipelineSchedule::one_f_one_b, PipelineSchedule::zero_bubble}) {
    run = with_schedule(run, kind);
    double busiest = 0, all = 0;
    for (int stage = 0; stage < 8; ++stage) {
      const Stage part = stage_of(run.model, 8, 1, stage);
      const double work = action_times(run.model, run.types, part, run.layout, run.training.recompute, n, run.hardware, run.efficiency).total();
      busiest = larger(busiest, work), all += work;
    }
    const StepOnPaper step = simulate(run);
    CHECK(step.pipeline > 176 * busiest);
    CHECK(step.pipeline < 183.5 * busiest);
    CHECK(step.bubble == Approx(1 - 176 * all / (8 * step.pipeline)));
    CHECK(step.bubble > bubble(PipelineSchedule::zero_bubble, 8, 1, 176));
  }
}

TEST_CASE("better schedules are faster, in the order of their bubbles") {
  PlannedRun run = original();
  run.training.batch.full = 24 * 32;
  const double plain = simulate(run).seconds, filled = simulate(with_schedule(run, PipelineSchedule::zero_bubble)).seconds,
               interleaved = simulate(with_schedule(run, PipelineSchedule::interleaved, 3)).seconds;
  CHECK(filled < plain);
  CHECK(interleaved < filled);
}

TEST_CASE("what is exposed goes away with what causes it") {
  PlannedRun run = original();
  const StepOnPaper step = simulate(run);
  PlannedRun no_wire = run;
  no_wire.hardware.between = no_wire.hardware.inside = {1e18, 0};
  const StepOnPaper without = simulate(no_wire);
  CHECK(without.exposed_data == Approx(0).margin(1e-6));
  CHECK(without.exposed_pipeline == Approx(0).margin(1e-6));
  CHECK(without.exposed_tensor == Approx(0).margin(1e-6));
  // Tensor ranks wait in the bubble too, so that a step is longer by more than the waits of one stage's micro-batches.
  const double exposed = step.exposed_pipeline + step.exposed_data + step.exposed_tensor;
  CHECK(step.seconds - without.seconds > exposed);
  CHECK(step.seconds - without.seconds < exposed + step.exposed_tensor * 8 / 176);
  run.overlapped_reduction = true;
  CHECK(simulate(run).exposed_data < step.exposed_data);
}

TEST_CASE("first and last stage add up the gradients of the tied embedding, whether there are data ranks or not") {
  PlannedRun run = original();
  run.layout = {.tp = 4, .pp = 8, .dp = 1}, run.training.batch.full = 16;
  const Link wire = links_of(run.hardware, run.layout, run.efficiency.links).pipeline;
  CHECK(simulate(run).exposed_data == Approx(all_reduce_seconds(150'528.0 / 4 * 12'288 * 2, 2, wire)));
  run.layout = {.tp = 8, .pp = 1, .dp = 1};
  CHECK(simulate(run).exposed_data == Approx(0).margin(1e-9));

  // With data ranks inside a node, whose links cost nothing here, each adds up what it owns, or all.
  run.layout = {.tp = 2, .pp = 8, .dp = 4}, run.hardware.inside = {1e18, 0};
  for (const int zero : {0, 1}) {
    run.training.zero = zero;
    CHECK(simulate(run).exposed_data == Approx(all_reduce_seconds(150'528.0 / 2 * 12'288 * 2 / (zero ? 4 : 1), 2, wire)));
  }
}

TEST_CASE("a straggler holds up everyone, the same one each time") {
  PlannedRun run = original();
  run.training.batch.full = 24 * 16;
  const double calm = simulate(run).seconds;
  run.stragglers = {.slow_ranks = 1, .slowdown = 0.1};
  CHECK((simulate(run).seconds > 1.08 * calm && simulate(run).seconds < 1.1 * calm));  // messages are no slower
  run.stragglers = {.slow_ranks = 0.004, .slowdown = 0.5, .seed = 1};                  // three of 768
  const StepOnPaper few = simulate(run);
  CHECK(few.seconds > 1.2 * calm);
  CHECK(few.stragglers == Approx(few.seconds - calm));
  CHECK(simulate(run).seconds == few.seconds);
  run.stragglers = {.jitter = 0.05};
  const StepOnPaper uneven = simulate(run);
  const double jittered = uneven.seconds;
  CHECK(jittered > calm);
  CHECK(uneven.pipeline == uneven.run.seconds);  // all wait for the slowest data rank
  run.stragglers.seed = 2;
  CHECK(simulate(run).seconds != jittered);
}

TEST_CASE("768 ranks are simulated in well under a second, 16,384 in a few") {
  PlannedRun run = original();
  run.stragglers = {.slow_ranks = 0.01, .jitter = 0.02};
  const auto seconds_of = [](const PlannedRun& r) {
    const auto start = std::chrono::steady_clock::now();
    simulate(r);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  CHECK(seconds_of(run) < 1);
  run.layout.dp = 512, run.training.batch.full = 512 * 176;
  CHECK(seconds_of(run) < 20);
}

TEST_CASE("a run that cannot be says what to change") {
  using Catch::Matchers::Contains;
  const auto broken = [](auto change) {
    PlannedRun run = original();
    change(run);
    return problem_of(run);
  };
  CHECK(problem_of(original()).empty());
  CHECK_THAT(broken([](PlannedRun& r) { r.layout.tp = 5; }), Contains("tp 5 does not divide"));
  CHECK_THAT(broken([](PlannedRun& r) { r.layout.pp = 73; }), Contains("lower pp or chunks"));
  CHECK_THAT(broken([](PlannedRun& r) { r.layout.dp = 25; }), Contains("no multiple of dp 25"));
  CHECK_THAT(broken([](PlannedRun& r) { r.layout.dp = 0; }), Contains("at least 1"));
  CHECK_THAT(broken([](PlannedRun& r) { r.training.chunks = 2; }), Contains("set chunks to 1"));
  CHECK_THAT(broken([](PlannedRun& r) { r = with_schedule(r, PipelineSchedule::interleaved, 2), r.training.batch.full = 24 * 9; }),
             Contains("a multiple of the stages"));
  CHECK_THAT(broken([](PlannedRun& r) { r = with_schedule(r, PipelineSchedule::interleaved, 2), r.layout.pp = 1; }), Contains("without a pipeline"));
  CHECK_THAT(broken([](PlannedRun& r) { r.types.compute = DType::bf16, r.hardware = v100_32gb; }), Contains("cannot multiply bf16"));
  CHECK_THROWS_WITH(fitted(original(), 1), Contains("at the machine's peak"));
  CHECK_THROWS_WITH(fitted(original(), 88500), Contains("at a hundredth of the machine's peak"));
}
