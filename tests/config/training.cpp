// The launch configuration of GLM-130B, and names of what is recomputed.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/training.hpp"

#include "catch.hpp"
#include "golem/train/schedules.hpp"

using namespace golem;

TEST_CASE("what is recomputed is found by its name, and an unknown name is answered with all of them") {
  for (const auto what : {Recompute::none, Recompute::attention, Recompute::block, Recompute::block_split}) CHECK(recompute_named(name_of(what)) == what);
  CHECK_THROWS_WITH(recompute_named("block-split"), Catch::Matchers::Contains("name one of none, attention, block, block_split"));
}

TEST_CASE("GLM-130B's launch warms up over 0.5%, ramps over 2.5% and decays over 90% of its rows") {
  constexpr TrainingConfig t = glm_130b_training;
  constexpr double rows = 450e9 / 2048;
  CHECK(static_cast<double>(t.learning_rate.warmup_samples) == Approx(0.005 * rows).epsilon(1e-6));
  CHECK(static_cast<double>(t.batch.ramp_samples) == Approx(0.025 * rows).epsilon(1e-6));
  CHECK(static_cast<double>(t.learning_rate.decay_samples) == Approx(0.9 * rows).epsilon(1e-6));
  std::int64_t consumed = 0, step = 0;
  while (batch_rows(t.batch, consumed) < t.batch.full) consumed += batch_rows(t.batch, consumed), ++step;
  CHECK(step == 4296);  // spec 4.2: the ramp ends there
  CHECK(learning_rate(t.learning_rate, 192) == Approx(1.398e-8).epsilon(1e-3));
  CHECK(t.loss_scale.window == 200);  // spec 9 item 9
}
