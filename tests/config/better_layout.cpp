// The search for a faster layout: what it finds fits, and nothing that fits is faster.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/better_layout.hpp"

#include "catch.hpp"

using namespace golem;

namespace {

PlannedRun fitted_original() {
  PlannedRun run{.model = glm_130b::config,
                 .types = {DType::f16, DType::f32, DType::f16},
                 .layout = {.tp = 4, .pp = 8, .dp = 24},
                 .training = glm_130b_training,
                 .hardware = a100_40gb,
                 .overlapped_reduction = false};
  return fitted(run, 88.5);
}

}  // namespace

TEST_CASE("tensor degrees divide a machine's GPUs, and a run's own micro-batch is among those that are tried") {
  PlannedRun run = fitted_original();
  run.model = glm_130b::config.with([](auto& c) { c.layers = 6, c.hidden = 768, c.heads = 12, c.ffn = 3072, c.vocab = 1536; });
  run.layout = {.tp = 3, .pp = 1, .dp = 2}, run.training.batch = {.full = 48}, run.training.micro_batch = 3;
  run.hardware.per_node = 6;
  bool three = false, own = false;
  for (const PlannedRun& one : possible_layouts(run, {})) {
    CHECK(6 % one.layout.tp == 0);
    CHECK(one.layout.ranks() == 6);
    three = three || one.layout.tp == 3, own = own || one.training.micro_batch == 3;
  }
  CHECK(three);
  CHECK(own);
}

TEST_CASE("on GLM-130B's machines a better layout exists, and fits") {
  const PlannedRun run = fitted_original();
  const auto degrees = better_layouts(run, {.schedule = false, .recompute = false});
  const auto all = better_layouts(run, {}, 3);
  REQUIRE(degrees.size() == 1);
  REQUIRE(all.size() == 3);
  CHECK(degrees[0].step.seconds < 88.5);  // the degrees alone: little, 2 to 3%
  CHECK(degrees[0].step.seconds > 0.95 * 88.5);
  CHECK(all[0].step.seconds < 0.75 * 88.5);  // with sequence parallelism nothing needs to be computed again
  CHECK(all[0].run.training.recompute == Recompute::none);
  CHECK(all[0].run.layout.sequence_parallel);
  CHECK(all[0].step.seconds <= all[1].step.seconds);
  for (const LayoutChoice& choice : all) {
    CHECK(choice.run.layout.ranks() == 768);
    CHECK(fullest_stage(choice.run.model, choice.run.types, choice.run.layout, choice.run.training).memory.total() <= a100_40gb.usable());
    CHECK(choice.step.seconds == simulate(choice.run).seconds);
  }
}

TEST_CASE("the estimate that the search sorts by leaves little out, so that it finds the fastest of all") {
  PlannedRun run = fitted_original();
  run.model = glm_10b::config;
  run.layout = {2, 4, 4};
  run.training.batch.full = 64;
  double fastest = 1e9;
  for (const PlannedRun& one : possible_layouts(run, {})) fastest = smaller(fastest, simulate(one).seconds);
  CHECK(better_layouts(run, {})[0].step.seconds == Approx(fastest).epsilon(0.01));
}

TEST_CASE("nothing is found where nothing fits") {
  PlannedRun run = fitted_original();
  run.layout = {2, 2, 2};
  CHECK(better_layouts(run, {}).empty());
}
