// Flops against the log's formulas, and what GLM-130B's machines reached by them.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/flops.hpp"

#include "catch.hpp"

using namespace golem;

namespace {

constexpr ModelConfig model = glm_130b::config;

constexpr bool about(double value, double expected, double tolerance) { return value > expected - tolerance && value < expected + tolerance; }

// Spec 4.4: 9.12e18 a step of 4224 rows, 88.5 s on 768 A100, 312 TFLOP/s each; the paper prints 43.3 and 32.5.
static_assert(about(training_flops(model, 2048, 4224, Recompute::block), 9.1176e18, 1e15));
static_assert(about(utilisation(model, 4224, Recompute::block, 88.5, 768, 312e12), 0.430, 0.0005));
static_assert(about(utilisation(model, 4224, Recompute::none, 88.5, 768, 312e12), 0.324, 0.0005));
static_assert(about(training_flops(model, 2048, 4224, Recompute::block) / (88.5 * 768), 134e12, 0.5e12));
static_assert(about(training_flops(model, 2048, 6144, Recompute::block) / (122.5 * 768), 141e12, 0.5e12));

}  // namespace

TEST_CASE("training takes the log's flops") {
  const double h = 12288, s = 2048, L = 70, V = 150528, B = 4224;
  const double block = 96 * B * s * L * h * h * (1 + s / (6 * h) + V / (16 * L * h)),
               none = 72 * B * s * L * h * h * (1 + s / (6 * h) + V / (12 * L * h));
  CHECK(training_flops(model, 2048, 4224, Recompute::block) == Approx(block).epsilon(1e-9));
  CHECK(training_flops(model, 2048, 4224, Recompute::block_split) == Approx(block).epsilon(1e-9));
  CHECK(training_flops(model, 2048, 4224, Recompute::none) == Approx(none).epsilon(1e-9));
}

TEST_CASE("selective recomputation costs the projection to queries, keys and values, and attention") {
  CHECK(recomputed_flops(model, 2048, Recompute::none) == 0);
  CHECK(recomputed_flops(model, 2048, Recompute::attention) == 2.0 * 3 * 12288 * 12288 + 4.0 * 2048 * 12288);
  CHECK(recomputed_flops(model, 2048, Recompute::block) == linear_flops(model) + attention_flops(model, 2048));
  CHECK(recomputed_flops(model.with([](auto& c) { c.kv_heads = 8; }), 2048, Recompute::attention) == 2.0 * (12288 + 2 * 8 * 128) * 12288 + 4.0 * 2048 * 12288);
  CHECK(linear_flops(model) == 2.0 * (1'812'115'456 - 49'152 - (36'864 + 12'288 + 65'536 + 12'288)));  // spec 1.8, without norms and biases
}
