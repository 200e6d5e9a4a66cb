// The plan of training memory against what the layers really lay out, and against the paper's machine.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/plan_training.hpp"

#include "catch.hpp"
#include "golem/config/plan.hpp"
#include "golem/nn/stage_memory.hpp"

using namespace golem;

namespace {

struct uneven {
  static constexpr auto config = checked({.layers = 5, .hidden = 48, .heads = 4, .ffn = 88, .vocab = 204, .context = 28, .dropout = 0.1});
};

constexpr TrainingTypes mixed = types_of<fp16_mixed>();
constexpr TrainingTypes fp16_gradients{DType::f16, DType::f32, DType::f16};  // as the original's (spec 4.2)

TrainingMemory glm_130b_on(const Layout& layout, const TrainingTypes& types, Recompute recompute = Recompute::block_split) {
  TrainingConfig training = glm_130b_training;
  training.recompute = recompute;
  return fullest_stage(glm_130b::config, types, layout, training).memory;
}

double gigabytes(std::int64_t bytes) { return static_cast<double>(bytes) / 1e9; }

}  // namespace

TEST_CASE("the layers lay out what the plan counts, for each way of recomputing and of cutting tokens") {
  const ModelConfig c = uneven::config.with([](auto& x) { x.heads = GENERATE(4, 8), x.kv_heads = 4; });
  for (const int tp : {1, 2, 4})
    for (const bool cut : {false, true})
      for (const auto recompute : {Recompute::none, Recompute::attention, Recompute::block, Recompute::block_split})
        for (int stage = 0; stage < 3; ++stage) {
          if (cut && tp == 1) continue;
          INFO("tp " << tp << " cut " << cut << " recompute " << static_cast<int>(recompute) << " stage " << stage);
          const Layout layout{.tp = tp, .pp = 3, .dp = 1, .sequence_parallel = cut};
          const TrainingConfig training{.batch = {.full = 12}, .micro_batch = 3, .recompute = recompute};
          const MicroBatch n = micro_batch_of(c, mixed, layout, training);
          const TokenCount tokens{3, c.context, cut ? 3 * c.context / tp : 3 * c.context};
          const Stage part = stage_of(c, 3, 1, stage);
          const Keep keep = keep_of(recompute);
          Arena kept, deferred, shared;
          KeptActivations<float16>().take(kept, c, tp, tokens, keep, part);
          DeferredGradients<float16>().take(deferred, c, tp, tokens, keep, part);
          StageSpace<float16>().take(shared, c, tp, tokens, keep);
          CHECK(static_cast<double>(kept.used()) == Approx(static_cast<double>(kept_bytes(c, n, recompute, part))).epsilon(0.03).margin(1));
          CHECK(static_cast<double>(deferred.used()) == Approx(static_cast<double>(deferred_bytes(c, n, recompute, part))).epsilon(0.03).margin(1));
          CHECK(static_cast<double>(shared.used()) == Approx(static_cast<double>(shared_bytes(c, n, recompute))).epsilon(0.03));
        }
}

TEST_CASE("rows are planned as long as the trainer pads them, where tokens are cut among tensor ranks") {
  ModelConfig c = uneven::config;
  c.context = 15;
  const auto tokens = [&](const Layout& layout, Recompute recompute) { return micro_batch_of(c, mixed, layout, {.micro_batch = 3, .recompute = recompute}).tokens; };
  CHECK(tokens({.tp = 4}, Recompute::block) == 45);
  CHECK(tokens({.tp = 4}, Recompute::block_split) == 48);
  CHECK(tokens({.tp = 1}, Recompute::block_split) == 45);
  CHECK(tokens({.tp = 4, .sequence_parallel = true}, Recompute::none) == 48);
  CHECK(micro_batch_of(c, mixed, {.tp = 4, .sequence_parallel = true}, {.micro_batch = 3}).own == 12);
}

TEST_CASE("a stage holds as many micro-batches as its schedule has in flight") {
  const ModelConfig& c = uneven::config;
  TrainingConfig training{.batch = {.full = 16}, .micro_batch = 1, .recompute = Recompute::block};
  const Layout layout{.pp = 4, .dp = 2};
  const auto kept = [&](int stage) {
    const MicroBatch n = micro_batch_of(c, mixed, layout, training);
    const std::int64_t output_gradient = stage == 3 ? n.tokens * c.hidden * n.compute : 0;  // of the final norm
    return plan_training(c, mixed, layout, training, stage).activations - shared_bytes(c, n, training.recompute) - output_gradient;
  };
  const auto one = [&](int stage) { return kept_bytes(c, micro_batch_of(c, mixed, layout, training), training.recompute, stage_of(c, 4, 1, stage)); };
  for (int stage = 0; stage < 4; ++stage) CHECK(kept(stage) == (4 - stage) * one(stage));
  training.schedule = PipelineSchedule::gpipe;
  for (int stage = 0; stage < 4; ++stage) CHECK(kept(stage) == 8 * one(stage));
  training.schedule = PipelineSchedule::zero_bubble;
  for (int stage = 0; stage < 4; ++stage)
    CHECK(kept(stage) ==
          4 * one(stage) + (stage + 1) * deferred_bytes(c, micro_batch_of(c, mixed, layout, training), training.recompute, stage_of(c, 4, 1, stage)));
}

TEST_CASE("ZeRO-1 cuts moments and master weights among the data ranks, and nothing else") {
  const ModelConfig& c = glm_small::config;
  TrainingConfig training{.batch = {.full = 32}, .micro_batch = 1};
  const Layout layout{.dp = 8};
  for (const TrainingTypes& types : {mixed, types_of<fp32>()}) {
    training.zero = 0;
    const TrainingMemory whole_state = plan_training(c, types, layout, training, 0);
    training.zero = 1;
    const TrainingMemory cut = plan_training(c, types, layout, training, 0);
    CHECK(cut.moments == whole_state.moments / 8);
    CHECK(cut.master_weights == whole_state.master_weights / (types.has_master_copy() ? 8 : 1));  // else they are the weights
    CHECK(cut.total() - cut.moments - cut.master_weights == whole_state.total() - whole_state.moments - whole_state.master_weights);
  }
}

TEST_CASE("GLM-130B's training fits its machine as the paper says") {
  const TrainingMemory original = glm_130b_on({4, 8, 24}, fp16_gradients);
  CHECK(gigabytes(original.weights) == Approx(8.2).margin(0.1));  // 4.09e9 parameters on the first stage
  CHECK(gigabytes(original.total()) == Approx(24.0).margin(0.3));
  const TrainingMemory too_few = glm_130b_on({2, 4, 96}, fp16_gradients);
  CHECK(gigabytes(2 * too_few.weights) == Approx(65).margin(0.5));                    // "65 GB of weights and gradients alone"
  CHECK(gigabytes(too_few.gradients - too_few.weights) == Approx(7.3).margin(0.1));  // what the embedding and a block are added in

  // Of 38 GiB: 42 with fp16 gradients, 50 with fp32. Borderline is 37, of half the stages on twice the tensor ranks.
  CHECK(gigabytes(glm_130b_on({2, 8, 48}, fp16_gradients).total()) == Approx(45.1).margin(0.3));
  CHECK(gigabytes(glm_130b_on({2, 8, 48}, mixed).total()) == Approx(54.1).margin(0.3));
  CHECK(gigabytes(glm_130b_on({4, 4, 48, true}, fp16_gradients).total()) == Approx(39.9).margin(0.3));

  // Sequence parallelism makes room for keeping everything.
  CHECK(glm_130b_on({4, 8, 24}, fp16_gradients, Recompute::none).total() > a100_40gb.usable());
  CHECK(glm_130b_on({4, 8, 24, true}, fp16_gradients, Recompute::none).total() < a100_40gb.usable());
}

static_assert(fits<glm_130b, fp16_mixed, Layout{.tp = 4, .pp = 8, .dp = 24}>(a100_40gb,
                                                                             {.micro_batch = 1, .recompute = Recompute::block, .zero = 1}));
static_assert(fits<glm_130b, fp16_mixed, Layout{.tp = 4, .pp = 8, .dp = 24}>(a100_40gb, glm_130b_training));
static_assert(!fits<glm_130b, fp16_mixed, Layout{.tp = 2, .pp = 4, .dp = 96}>(a100_40gb, glm_130b_training));
static_assert(!fits<glm_130b, fp16_mixed, Layout{.tp = 4, .pp = 8, .dp = 24}>(a100_40gb,
                                                                              {.micro_batch = 1, .recompute = Recompute::none, .zero = 1}));
static_assert(!fits(glm_130b::config, fp16_gradients, {2, 8, 48}, a100_40gb, glm_130b_training));
static_assert(fits(glm_130b::config, fp16_gradients, {4, 4, 48, true}, a100_40gb, glm_130b_training));
static_assert(!fits(glm_130b::config, mixed, {2, 8, 48}, a100_40gb, glm_130b_training));

// Spec 5.4: what fits without offloading, and what does not.
template <int bits>
using int_weights = quantized<Quant{.bits = bits}, fp16>;
static_assert(fits_inference<glm_130b, fp16, Layout{.tp = 8}>(a100_40gb));
static_assert(!fits_inference<glm_130b, fp16, Layout{.tp = 8}>(v100_32gb));
static_assert(fits_inference<glm_130b, int_weights<8>, Layout{.tp = 8}>(v100_32gb));
static_assert(fits_inference<glm_130b, int_weights<8>, Layout{.tp = 8}>(rtx_3090));
static_assert(fits_inference<glm_130b, int_weights<4>, Layout{.tp = 4}>(rtx_3090));
static_assert(!fits_inference<glm_130b, int_weights<8>, Layout{.tp = 4}>(rtx_3090));
static_assert(fits_inference<glm_130b, int_weights<4>, Layout{.tp = 8}>(rtx_2080_ti));
static_assert(!fits_inference<glm_130b, int_weights<8>, Layout{.tp = 8}>(rtx_2080_ti));
