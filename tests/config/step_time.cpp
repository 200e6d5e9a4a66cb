// Times and bytes of a stage's actions: they scale as the model and the ranks do.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/step_time.hpp"

#include "catch.hpp"

using namespace golem;

namespace {

constexpr ModelConfig trained_model = glm_130b::config;
constexpr TrainingTypes types{DType::f16, DType::f32, DType::f16};
constexpr Efficiency peak{.products = 1, .attention = 1, .memory = 1, .links = 1};
constexpr Stage block{8, 9, false, false};

/// A machine whose memory and links take no time.
Hardware only_products() {
  Hardware h = a100_40gb;
  h.bandwidth = 1e30, h.inside = h.between = {1e30, 0};
  return h;
}

ActionTimes times(const Hardware& h, const Stage& stage, const Layout& layout, Recompute recompute, const ModelConfig& c = trained_model) {
  const TrainingConfig training{.micro_batch = 1, .recompute = recompute};
  return action_times(c, types, stage, layout, recompute, micro_batch_of(c, types, layout, training), h, peak);
}

}  // namespace

TEST_CASE("at the peak, actions take the model's flops") {
  const double rate = 312e12;
  for (const int kv_heads : {0, 8})
    for (const int tp : {1, 4}) {
      const ModelConfig c = trained_model.with([&](auto& x) { x.kv_heads = kv_heads; });
      const double forward = 2048 * (linear_flops(c) + attention_flops(c, 2048));
      const ActionTimes none = times(only_products(), block, {.tp = tp}, Recompute::none, c);
      CHECK(none.forward == Approx(forward / rate / tp));
      CHECK(none.total() == Approx(3 * forward / rate / tp));
      CHECK(none.backward_weight == Approx(2048 * linear_flops(c) / rate / tp));
      for (const auto recompute : {Recompute::attention, Recompute::block, Recompute::block_split})
        CHECK(times(only_products(), block, {.tp = tp}, recompute, c).total() ==
              Approx(3 * forward / rate / tp + 2048 * recomputed_flops(c, 2048, recompute) / rate / tp));
    }
  // All stages of the pipeline together: the whole step's flops.
  for (const auto recompute : {Recompute::none, Recompute::block}) {
    double all = 0;
    for (int stage = 0; stage < 8; ++stage) all += times(only_products(), stage_of(trained_model, 8, 1, stage), {.tp = 4, .pp = 8}, recompute).total();
    CHECK(all * 4 * rate == Approx(training_flops(trained_model, 2048, 1, recompute)));
  }
}

TEST_CASE("a block sums its tokens twice each way, and twice more where it is computed again") {
  Hardware h = only_products();
  h.inside = {100e9, 0};
  const double sum = all_reduce_bytes(2048.0 * 12288 * 2, 4) / 100e9;
  CHECK(times(h, block, {.tp = 4}, Recompute::none).tensor() == Approx(4 * sum));
  CHECK(times(h, block, {.tp = 4}, Recompute::block).tensor() == Approx(5 * sum));
  CHECK(times(h, block, {.tp = 4}, Recompute::block_split).tensor() == Approx(5.5 * sum));                    // and puts its input together
  CHECK(times(h, block, {.tp = 4, .sequence_parallel = true}, Recompute::none).tensor() == Approx(5 * sum));  // and two inputs of linears
  CHECK(times(h, block, {.tp = 1}, Recompute::none).tensor() == 0);
}

TEST_CASE("bytes that a rank sends in a step") {
  const TrainingConfig training{.batch = {.full = 48}, .micro_batch = 1, .recompute = Recompute::none, .zero = 1};
  const Layout layout{.tp = 4, .pp = 8, .dp = 24};
  const StepTraffic inner = step_traffic(trained_model, types, layout, training, 3), first = step_traffic(trained_model, types, layout, training, 0);
  const double tokens = 2048.0 * 12288 * 2, parameters = static_cast<double>(parameter_count(trained_model, {17, 26, false, false}, 4));
  CHECK(inner.tensor == Approx(2 * 9 * 4 * 1.5 * tokens));
  CHECK(first.tensor == Approx(2 * (8 * 4 + 1) * 1.5 * tokens));
  CHECK(inner.pipeline == Approx(2 * 2 * tokens));
  CHECK(first.pipeline == Approx(2 * tokens));
  CHECK(inner.data == Approx(2 * parameters * 2 * 23 / 24));
  CHECK(step_traffic(trained_model, types, {}, training, 0).data == 0);
}

TEST_CASE("the end of a step: ZeRO-1 moves its own part of the weights only") {
  const UpdateTimes whole = update_times(types, 1e9, {.dp = 8}, 0, a100_40gb, peak), cut = update_times(types, 1e9, {.dp = 8}, 1, a100_40gb, peak);
  CHECK(cut.optimizer == Approx(whole.optimizer / 8));
  CHECK(whole.gather == 0);
  CHECK(cut.reduce + cut.gather == Approx(whole.reduce));  // fp16 gradients and weights
  CHECK(whole.optimizer == Approx(1e9 * (4 + 24 + 2) / 1555e9));
}
