// Trainers of many ranks allocate what the plan says, item by item, and hold no more in a step: every schedule, way of recomputing, ZeRO-1 and sequence parallelism.
// SPDX-License-Identifier: Apache-2.0
#include <mutex>
#include <string>
#include <vector>

#include "catch.hpp"
#include "golem/comm/threads.hpp"
#include "golem/config/plan.hpp"
#include "golem/golem.hpp"
#include "train/models.hpp"

using namespace golem;

namespace {

/// Its context is odd: where tokens are cut, a row is longer by one.
struct Planned {
  static constexpr auto config =
      checked(glm_tiny::config.with([](auto& c) { c.layers = 4, c.hidden = 96, c.heads = 2, c.ffn = 160, c.context = 63, c.dropout = 0.1; }));
};

/// What the buffers of each rank hold, by label; the ranks of a stage are alike.
struct Held {
  std::int64_t stage = 0, activations = 0, moments = 0, master = 0, weights = 0, gradients = 0, head = 0, pipeline = 0, batch = 0, workspace = 0;
  std::int64_t peak = 0;  // of all
};

template <class P>
std::vector<Held> held_by_ranks(const Layout& layout, const TrainingConfig& training) {
  std::vector<Held> held;
  std::mutex mutex;
  run_ranks(layout.ranks(), [&](Group all) {
    const World world(all, layout);
    cpu::Device device({.threads = 1});
    TrainerCore<Planned, P, 2, cpu::Device> trainer(device, training, world);
    Batch batch;
    const auto next = [&](int rows) -> const Batch& { return batch = models::random_batch(rows, Planned::config.context, Planned::config.vocab, 1); };
    trainer.step(next);
    trainer.evaluate(next(training.micro_batch));
    const auto of = [&](const char* label) { return device.memory().of(label); };
    const std::lock_guard lock(mutex);
    held.push_back(
        {world.stage(), of("activations"), of("moments"), of("master weights"), of("weights"), of("gradients"), of("head"), of("pipeline"), of("batch"), of("workspace"),
         device.memory().peak()});
  });
  return held;
}

template <class P>
void compare(const Layout& layout, TrainingConfig training) {
  training.batch.full = std::int64_t{training.micro_batch} * layout.dp * 2 * layout.pp;
  INFO(P::name << " tp 2 pp " << layout.pp << " dp " << layout.dp << " cut " << layout.sequence_parallel << " " << name_of(training.schedule) << " x"
               << training.chunks << " recompute " << static_cast<int>(training.recompute) << " zero " << training.zero);
  for (const Held& held : held_by_ranks<P>(layout, training)) {
    INFO("stage " << held.stage);
    const TrainingMemory plan = plan_training(Planned::config, types_of<P>(), layout, training, static_cast<int>(held.stage));
    const auto close = [](std::int64_t got, std::int64_t planned) {
      return static_cast<double>(got) == Approx(static_cast<double>(planned)).epsilon(0.02).margin(1);
    };
    CHECK(close(held.activations, plan.activations));
    CHECK(close(held.moments, plan.moments));
    CHECK(close(held.master, plan.master_weights));
    CHECK(close(held.weights, plan.weights));
    CHECK(close(held.gradients, plan.gradients));
    CHECK(close(held.head, plan.head));
    CHECK(close(held.pipeline, plan.communication));
    CHECK(held.workspace <= plan.workspace);  // which is what a GPU's ops may take; the CPU's need less
    CHECK(close(held.peak, plan.total() - plan.workspace + held.workspace + held.batch));
  }
}

}  // namespace

TEMPLATE_TEST_CASE("ranks hold what the plan says", "", fp32, bf16_mixed) {
  for (const auto recompute : {Recompute::none, Recompute::attention, Recompute::block, Recompute::block_split})
    for (const bool cut : {false, true})
      compare<TestType>({.tp = 2, .pp = 2, .dp = 1, .sequence_parallel = cut}, {.micro_batch = 2, .recompute = recompute});
  for (const auto kind : {PipelineSchedule::gpipe, PipelineSchedule::one_f_one_b, PipelineSchedule::zero_bubble})
    compare<TestType>({.tp = 2, .pp = 3, .dp = 1}, {.micro_batch = 1, .recompute = Recompute::block, .schedule = kind});
  compare<TestType>({.tp = 2, .pp = 6, .dp = 1}, {.micro_batch = 1, .recompute = Recompute::block});  // the first and the last stage have no block
  compare<TestType>({.tp = 2, .pp = 2, .dp = 1}, {.micro_batch = 1, .schedule = PipelineSchedule::interleaved, .chunks = 3});
  for (const int zero : {0, 1}) compare<TestType>({.tp = 2, .pp = 1, .dp = 3}, {.micro_batch = 1, .zero = zero});
}

TEST_CASE("gradients of another type need a space to be added in") {
  compare<low_gradients<bf16_mixed>>({.tp = 2, .pp = 2, .dp = 1}, {.micro_batch = 1, .schedule = PipelineSchedule::zero_bubble});
}
