// Schedules against the spec's figures.
// SPDX-License-Identifier: Apache-2.0
#include "golem/train/schedules.hpp"

#include "catch.hpp"

using namespace golem;

TEST_CASE("GLM-130B's learning rate starts at 0, peaks, and ends at its minimum") {
  const LearningRate& c = glm_130b_training.learning_rate;
  CHECK(learning_rate(c, 0) == 0);
  CHECK(learning_rate(c, 192) == Approx(1.398e-8).epsilon(1e-3));  // iteration 2, spec 4.2
  CHECK(learning_rate(c, 1'098'632) == Approx(8e-5));
  CHECK(learning_rate(c, (1'098'632 + 197'753'905) / 2) == Approx(0.5 * (8e-5 + 8e-6)).epsilon(1e-6));
  CHECK(learning_rate(c, 197'753'905) == 8e-6);
  CHECK(learning_rate(c, 219'726'562) == 8e-6);
}

TEST_CASE("a rate without decay stays at its peak") { CHECK(learning_rate({.peak = 0.5, .warmup_samples = 10}, 1000) == 0.5); }

TEST_CASE("GLM-130B's batch grows from 192 to 4224 by 24, and the ramp ends at step 4296") {
  const BatchSize& c = glm_130b_training.batch;
  CHECK(batch_rows(c, 0) == 192);
  CHECK(batch_rows(c, 32'697) == 192);
  CHECK(batch_rows(c, 32'698) == 216);
  std::int64_t samples = 0, steps = 0;
  for (; batch_rows(c, samples) < 4224; ++steps) samples += batch_rows(c, samples);
  CHECK(steps == 4296);  // spec 4.2
  CHECK(rows_of_steps(c, 4296) == samples);
  CHECK(rows_of_steps(c, 10'000) == samples + 5704 * 4224);
  CHECK(rows_of_steps(c, 2) == 384);
  CHECK(rows_of_steps(c, 0) == 0);
  CHECK(rows_of_steps({.full = 8}, 3) == 24);
}

TEST_CASE("embedding shrink keeps alpha, rises in a line, and stays at 1") {
  const EmbeddingShrink c{.alpha = 0.1, .ramp_from = 6000, .ramp_steps = 500};
  CHECK(embedding_shrink(c, 1) == 0.1);
  CHECK(embedding_shrink(c, 6000) == 0.1);
  CHECK(embedding_shrink(c, 6001) == 0.1);  // (n - 1 - x1) / x2 = 0
  CHECK(embedding_shrink(c, 6251) == Approx(0.55));
  CHECK(embedding_shrink(c, 6500) == 1);
  CHECK(embedding_shrink({}, 1) == 1);
}
