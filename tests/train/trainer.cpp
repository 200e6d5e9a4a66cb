// The trainer: it learns, it resumes byte for byte, it skips what overflows, and it holds what the plan says.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "catch.hpp"
#include "golem/golem.hpp"
#include "train/memory_state.hpp"
#include "train/models.hpp"

using namespace golem;

namespace {

using M = models::Small<Norm::deep>;

struct DroppingAFifth {
  static constexpr auto config = checked(M::config.with([](auto& c) { c.dropout = 0.2; }));
};

struct Measured {
  static constexpr auto config = checked(glm_tiny::config.with([](auto& c) { c.layers = 3, c.hidden = 128, c.heads = 2, c.ffn = 352; }));
};

// Batches 0, 1, 2, ... of a fixed series.
struct Series {
  int next = 0;
  int length = 16;
  Batch batch;
  const Batch& operator()(int rows) {
    batch = models::random_batch(rows, length, M::config.vocab, static_cast<std::uint64_t>(next++));
    return batch;
  }
};

}  // namespace

TEMPLATE_TEST_CASE("a small model learns a batch by heart", "", fp32, bf16_mixed, fp16_mixed) {
  cpu::Device device({.threads = 2});
  Trainer<M, TestType> trainer(device, {.learning_rate = {.peak = 2e-2, .min = 2e-2, .warmup_samples = 20}, .batch = {.full = 2}, .micro_batch = 2, .weight_decay = 0});
  const Batch batch = models::random_batch(2, 12, M::config.vocab, 1);
  const double before = trainer.evaluate(batch).loss();
  const auto source = [&](int) -> const Batch& { return batch; };
  for (int i = 0; i < 150; ++i) trainer.step(source);
  CHECK(before > 3);
  CHECK(trainer.evaluate(batch).loss() < 0.1);
}

TEMPLATE_TEST_CASE("a resumed run equals the uninterrupted one, bit for bit", "", fp32, bf16_mixed, fp16_mixed) {
  const TrainingConfig config{.learning_rate = {.peak = 1e-2, .min = 1e-3, .warmup_samples = 8, .decay_samples = 60},
                              .batch = {.full = 6, .start = 2, .increment = 2, .ramp_samples = 12},
                              .micro_batch = 4,
                              .shrink = {.alpha = 0.1, .ramp_from = 3, .ramp_steps = 4, .where = EmbeddingShrink::Where::input_and_head},
                              .loss_scale = {.window = 3}};
  cpu::Device device({.threads = 2});
  Trainer<DroppingAFifth, TestType> straight(device, config), first(device, config), second(device, config);
  Series a, b;
  for (int i = 0; i < 10; ++i) straight.step(a);
  for (int i = 0; i < 5; ++i) first.step(b);
  tests::MemoryState state;
  state.save(first);
  state.load(second);
  for (int i = 0; i < 5; ++i) second.step(b);
  tests::MemoryState end_straight, end_second;
  end_straight.save(straight);
  end_second.save(second);
  CHECK(end_straight == end_second);
  CHECK_FALSE(end_straight == state);
}

TEST_CASE("the answer does not depend on the number of threads") {
  tests::MemoryState states[3];
  for (int threads = 1; threads <= 3; ++threads) {
    cpu::Device device({.threads = threads});
    Trainer<DroppingAFifth> trainer(device, {.batch = {.full = 3}, .micro_batch = 3});
    Series series;
    for (int i = 0; i < 4; ++i) trainer.step(series);
    states[threads - 1].save(trainer);
  }
  CHECK(states[0] == states[1]);
  CHECK(states[0] == states[2]);
}

TEST_CASE("how many logits are held at once changes the order of additions, and what the head holds") {
  cpu::Device device({.threads = 2});
  StepReport reports[3];
  int i = 0;
  for (const std::int64_t head_tokens : {0, 5, 1}) {
    const TrainingConfig config{.batch = {.full = 3}, .micro_batch = 3, .head_tokens = head_tokens};
    Trainer<M, fp64> trainer(device, config);
    const std::int64_t planned = plan_training<M, fp64>(config).head;
    CHECK(static_cast<double>(device.memory().of("head")) == Approx(static_cast<double>(planned)).epsilon(0.05).margin(1024));
    Series series;
    for (int step = 0; step < 4; ++step) reports[i] = trainer.step(series);
    ++i;
  }
  for (const StepReport& other : {reports[1], reports[2]}) {
    CHECK(other.loss == Approx(reports[0].loss).epsilon(1e-12));
    CHECK(other.gradient_norm == Approx(reports[0].gradient_norm).epsilon(1e-10));
  }
  CHECK(plan_training<M, fp64>({.head_tokens = 5}).head < plan_training<M, fp64>({}).head);
  CHECK_THROWS_WITH((Trainer<M, fp64>(device, {.head_tokens = -1})), Catch::Matchers::Contains("TrainingConfig::head_tokens"));
}

TEST_CASE("dropout depends on the sample, not on the micro-batch, and evaluation has none") {
  cpu::Device device({.threads = 2});
  Trainer<DroppingAFifth, fp64> one(device, {.batch = {.full = 4}, .micro_batch = 1}), four(device, {.batch = {.full = 4}, .micro_batch = 4});
  Batch batch = models::random_batch(4, 12, M::config.vocab, 2);
  batch.windows.clear(), batch.first_window = {0};
  for (int r = 0; r < 4; ++r) batch.windows.push_back({0, 12, 3}), batch.first_window.push_back(r + 1);
  int row = 0;
  Batch single;
  const auto rows = [&](int) -> const Batch& {
    const auto begin = row * 12, end = begin + 12;
    single = {.rows = 1, .length = 12, .tokens = {batch.tokens.begin() + begin, batch.tokens.begin() + end}, .positions = {batch.positions.begin() + begin, batch.positions.begin() + end},
              .targets = {batch.targets.begin() + begin, batch.targets.begin() + end}, .windows = {{0, 12, 3}}, .first_window = {0, 1}, .tasks = {batch.tasks[static_cast<std::size_t>(row)]}};
    ++row;
    return single;
  };
  const auto all = [&](int) -> const Batch& { return batch; };
  const StepReport a = one.step(rows), b = four.step(all);
  CHECK(a.loss == Approx(b.loss).epsilon(1e-12));
  CHECK(a.gradient_norm == Approx(b.gradient_norm).epsilon(1e-10));
  CHECK(four.evaluate(batch).loss() == four.evaluate(batch).loss());
  CHECK(std::abs(a.loss - four.evaluate(batch).loss()) > 1e-6);
}

TEST_CASE("an overflow skips the update, tells so, and lowers the scale") {
  cpu::Device device({.threads = 1});
  Trainer<M, fp16_mixed> trainer(device, {.learning_rate = {.peak = 1e-2}, .batch = {.full = 1}, .micro_batch = 1, .loss_scale = {.initial = 1e30, .hysteresis = 1}});
  Series series;
  const std::vector<float> before(trainer.parameters().data, trainer.parameters().data + trainer.parameters().size());
  const StepReport report = trainer.step(series);
  CHECK(report.skipped);
  CHECK_THAT(report.note, Catch::Matchers::Contains("overflow"));
  CHECK(std::memcmp(before.data(), trainer.parameters().data, before.size() * sizeof(float)) == 0);
  CHECK(trainer.samples() == 1);            // the data move on
  CHECK(trainer.next_learning_rate() == 1e-2);
  CHECK(trainer.step(series).loss_scale == 0.5 * report.loss_scale);
}

TEST_CASE("weights that are no numbers raise an alarm under a loss scale too, once it has fallen far") {
  cpu::Device device({.threads = 1});
  Trainer<M, fp16_mixed> trainer(device, {.batch = {.full = 1}, .micro_batch = 1, .loss_scale = {.initial = 512, .hysteresis = 1}});
  trainer.state().weights().data[0] = float16(std::numeric_limits<float>::quiet_NaN());
  Batch batch = models::random_batch(1, 12, M::config.vocab, 1);
  batch.tokens[0] = 0;
  const auto source = [&](int) -> const Batch& { return batch; };
  for (const bool expected : {false, false, true, true}) CHECK(trainer.step(source).alarm == expected);  // 256, 128, 64, 32
}

TEST_CASE("configurations that no run can have are refused with a sentence") {
  cpu::Device device({.threads = 1});
  const auto refusal = [&](TrainingConfig config) {
    config.batch.full = config.micro_batch = 1;
    CHECK_THROWS_WITH((Trainer<M, fp16_mixed>(device, config)), Catch::Matchers::Contains("TrainingConfig::"));
  };
  refusal({.loss_scale = {.initial = 1, .min = 2}});
  refusal({.loss_scale = {.min = 0}});
  refusal({.loss_scale = {.window = -1}});
  refusal({.loss_scale = {.hysteresis = 0}});
  refusal({.sentinel = {.history = -1}});
  refusal({.sentinel = {.factor = 0}});
  Trainer<M> grouped(device, {.batch = {.full = 1}, .micro_batch = 1, .add_like = {.stages = true}});
  LossSummary losses;
  CHECK_THROWS_WITH(grouped.accumulate(models::random_batch(1, 12, M::config.vocab, 1), 1, losses), Catch::Matchers::Contains("TrainingConfig::add_like"));
}

TEST_CASE("a gradient that is not finite is never applied, whatever the precision") {
  cpu::Device device({.threads = 1});
  Trainer<M> trainer(device, {.batch = {.full = 1}, .micro_batch = 1});
  trainer.parameters().data[0] = std::numeric_limits<float>::quiet_NaN();
  Series series;
  const float kept = trainer.parameters().data[100];
  Batch batch = series(1);
  batch.tokens[0] = 0;
  const auto source = [&](int) -> const Batch& { return batch; };
  const StepReport report = trainer.step(source);
  CHECK(report.skipped);
  CHECK(report.alarm);
  CHECK(trainer.parameters().data[100] == kept);
}

TEST_CASE("a spike is skipped where the sentinel may") {
  cpu::Device device({.threads = 1});
  Trainer<M> trainer(device, {.learning_rate = {.peak = 1e-4}, .batch = {.full = 1}, .micro_batch = 1, .sentinel = {.action = SentinelConfig::Action::skip, .factor = 3, .history = 8}});
  bool spike = false;
  auto loss = [&](View<float, 2> logits, View<const std::int32_t, 1>, View<float, 1> losses) {
    for (std::int64_t i = 0; i < logits.size(); ++i) logits.data[i] = spike ? 100.0f * static_cast<float>(i % 2) : static_cast<float>(i % 2);
    for (std::int64_t i = 0; i < losses.size(); ++i) losses.data[i] = 0;
  };
  trainer.set_own_loss(loss);
  Series series;
  for (int i = 0; i < 8; ++i) CHECK_FALSE(trainer.step(series).skipped);
  spike = true;
  const StepReport report = trainer.step(series);
  CHECK(report.skipped);
  CHECK_THAT(report.note, Catch::Matchers::Contains("gradient norm"));
}

TEST_CASE("an own loss equal to cross entropy gives cross entropy's gradients") {
  cpu::Device device({.threads = 1});
  Trainer<M, fp64> own(device, {.batch = {.full = 2}, .micro_batch = 2}), built_in(device, {.batch = {.full = 2}, .micro_batch = 2});
  const auto cross_entropy = [](View<double, 2> logits, View<const std::int32_t, 1> targets, View<double, 1> losses) {
    for (std::int64_t i = 0; i < logits.extent(0); ++i) {
      double sum = 0;
      const double picked = logits(i, targets(i));
      for (std::int64_t v = 0; v < logits.extent(1); ++v) sum += std::exp(logits(i, v));
      for (std::int64_t v = 0; v < logits.extent(1); ++v) logits(i, v) = std::exp(logits(i, v)) / sum - (v == targets(i) ? 1 : 0);
      losses(i) = std::log(sum) - picked;
    }
  };
  own.set_own_loss(cross_entropy);
  const Batch batch = models::random_batch(2, 12, M::config.vocab, 2);
  LossSummary a, b;
  own.accumulate(batch, 2, a);
  built_in.accumulate(batch, 2, b);
  CHECK(a.loss() == Approx(b.loss()).epsilon(1e-12));
  for (std::int64_t i = 0; i < own.gradients().size(); ++i) REQUIRE(own.gradients().data[i] == Approx(built_in.gradients().data[i]).epsilon(1e-9).margin(1e-13));
}

TEST_CASE("embedding shrink scales what flows in through the input, and the head's share only where asked") {
  cpu::Device device({.threads = 1});
  const Batch batch = models::random_batch(1, 12, M::config.vocab, 2);
  const auto gradient = [&](EmbeddingShrink shrink) {
    Trainer<M, fp64> trainer(device, {.batch = {.full = 1}, .micro_batch = 1, .shrink = shrink});
    LossSummary losses;
    trainer.accumulate(batch, 1, losses);
    return std::vector<double>(trainer.gradients().data, trainer.gradients().data + M::config.vocab * M::config.hidden);
  };
  const auto whole = gradient({}), head = gradient({.alpha = 0}), half = gradient({.alpha = 0.5}), both = gradient({.alpha = 0.5, .where = EmbeddingShrink::Where::input_and_head});
  for (std::size_t i = 0; i < whole.size(); ++i) {
    REQUIRE(half[i] == Approx(head[i] + 0.5 * (whole[i] - head[i])).epsilon(1e-9).margin(1e-13));
    REQUIRE(both[i] == Approx(0.5 * whole[i]).epsilon(1e-9).margin(1e-13));
  }
}

TEST_CASE("levers: the rate is warmed up again, and changes are part of the state") {
  cpu::Device device({.threads = 1});
  Trainer<M> trainer(device, {.learning_rate = {.peak = 1e-2, .min = 1e-3}, .batch = {.full = 1}, .micro_batch = 1});
  Series series;
  for (int i = 0; i < 3; ++i) trainer.step(series);
  trainer.levers().learning_rate.peak = 4e-3;
  trainer.levers().shrink = {.alpha = 0.2, .ramp_from = 90, .ramp_steps = 10, .where = EmbeddingShrink::Where::input_and_head};
  trainer.levers().rewarm_from = trainer.steps() + 2, trainer.levers().rewarm_steps = 4;
  for (int i = 0; i < 2; ++i) CHECK(trainer.step(series).learning_rate == Approx(4e-3));  // not yet
  for (const double expected : {1e-3, 2e-3, 3e-3, 4e-3, 4e-3}) CHECK(trainer.step(series).learning_rate == Approx(expected));
  trainer.levers().learning_rate = {.peak = 4e-3, .min = 2e-3, .warmup_samples = 11, .decay_samples = 12345};
  trainer.levers().beta2 = 0.99, trainer.levers().clip = 0.25;
  tests::MemoryState state;
  state.save(trainer);
  Trainer<M> other(device, {.learning_rate = {.peak = 1e-2, .min = 1e-3}, .batch = {.full = 1}, .micro_batch = 1});
  state.load(other);
  const Levers &saved = trainer.levers(), &kept = other.levers();
  CHECK(kept.learning_rate.peak == 4e-3);
  CHECK(kept.learning_rate.min == 2e-3);
  CHECK(kept.learning_rate.warmup_samples == 11);
  CHECK(kept.learning_rate.decay_samples == 12345);
  CHECK(kept.beta2 == 0.99);
  CHECK(kept.clip == 0.25);
  CHECK(kept.rewarm_from == saved.rewarm_from);
  CHECK(kept.rewarm_steps == saved.rewarm_steps);
  CHECK(kept.shrink.alpha == saved.shrink.alpha);
  CHECK(kept.shrink.ramp_from == saved.shrink.ramp_from);
  CHECK(kept.shrink.ramp_steps == saved.shrink.ramp_steps);
  CHECK(kept.shrink.where == saved.shrink.where);
}

TEST_CASE("a run that goes on takes the optimizer's numbers from what was saved, whatever its configuration says; another batch is refused") {
  cpu::Device device({.threads = 1});
  const TrainingConfig config{.batch = {.full = 2}, .micro_batch = 1, .beta1 = 0.8, .beta2 = 0.97, .eps = 1e-6, .weight_decay = 0.3, .clip = 0.1};
  Trainer<M> trainer(device, config);
  Series series, ahead;
  for (int i = 0; i < 2; ++i) trainer.step(series);
  ahead.next = series.next;
  tests::MemoryState state, end, resumed_end;
  state.save(trainer);
  Trainer<M> resumed(device, {.batch = {.full = 2}, .micro_batch = 1});
  state.load(resumed);
  for (int i = 0; i < 2; ++i) trainer.step(series), resumed.step(ahead);
  end.save(trainer), resumed_end.save(resumed);
  CHECK(end == resumed_end);

  Trainer<M> other(device, {.batch = {.full = 3, .start = 1, .increment = 1, .ramp_samples = 9}, .micro_batch = 1});
  tests::MemoryState untouched, refused;
  untouched.save(other);
  CHECK_THROWS_WITH(state.load(other), "the saved run takes steps of 2 rows, and this one of 1 rows, growing by 1 to 3 over 9: go on with its batch (TrainingConfig::batch)");
  refused.save(other);
  CHECK(refused == untouched);
}

TEST_CASE("numbers that no step can be taken with are refused by the names of their fields") {
  cpu::Device device({.threads = 1});
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  const auto refuses = [](const char* field, auto change) {
    TrainingConfig config;
    change(config);
    CHECK_THROWS_WITH(checked(config, Layout{}), Catch::Matchers::Contains(sentence("TrainingConfig::", field, " must be ")));
  };
  for (const double value : {nan, infinity, -1.0}) {
    refuses("learning_rate.peak", [&](TrainingConfig& c) { c.learning_rate.peak = value; });
    refuses("learning_rate.min", [&](TrainingConfig& c) { c.learning_rate.min = value; });
    refuses("weight_decay", [&](TrainingConfig& c) { c.weight_decay = value; });
    refuses("eps", [&](TrainingConfig& c) { c.eps = value; });
    refuses("beta1", [&](TrainingConfig& c) { c.beta1 = value; });
    refuses("beta2", [&](TrainingConfig& c) { c.beta2 = value; });
    refuses("shrink.alpha", [&](TrainingConfig& c) { c.shrink.alpha = value; });
  }
  for (const double value : {nan, -1.0}) refuses("clip", [&](TrainingConfig& c) { c.clip = value; });
  refuses("eps", [](TrainingConfig& c) { c.eps = 0; });
  refuses("beta1", [](TrainingConfig& c) { c.beta1 = 1; });
  refuses("beta2", [](TrainingConfig& c) { c.beta2 = 1; });
  refuses("shrink.alpha", [](TrainingConfig& c) { c.shrink.alpha = 1.5; });
  refuses("shrink.ramp_steps", [](TrainingConfig& c) { c.shrink.ramp_steps = -1; });
  refuses("learning_rate.warmup_samples", [](TrainingConfig& c) { c.learning_rate.warmup_samples = -1; });
  refuses("learning_rate.decay_samples", [](TrainingConfig& c) { c.learning_rate.decay_samples = -1; });
  TrainingConfig endless;
  endless.loss_scale.initial = infinity;
  CHECK_THROWS_WITH(checked(endless, Layout{}), Catch::Matchers::Contains("TrainingConfig::loss_scale needs a finite initial"));

  Trainer<M> trainer(device, {.batch = {.full = 1}, .micro_batch = 1});
  Series series;
  trainer.levers().beta2 = nan;
  CHECK_THROWS_WITH(trainer.step(series), Catch::Matchers::Contains("a beta2 of nan: Levers::beta2 must be from 0 to below 1"));
  CHECK(trainer.steps() == 0);
}

TEST_CASE("a world of another layout is a sentence") {
  cpu::Device device({.threads = 1});
  const World alone;
  CHECK_THROWS_WITH((Trainer<M, fp32, Layout{.dp = 2}>(device, {}, alone)), Catch::Matchers::Contains("was given a world of") && Catch::Matchers::Contains("make the World with the same Layout"));
}

TEMPLATE_TEST_CASE("buffers hold what the plan says, within 5%", "", fp32, bf16_mixed) {
  for (const Recompute recompute : {Recompute::none, Recompute::block}) {
    const TrainingConfig config{.batch = {.full = 4}, .micro_batch = 4, .recompute = recompute};
    cpu::Device device({.threads = 1});
    Trainer<Measured, TestType> trainer(device, config);
    const Batch batch = models::random_batch(4, Measured::config.context, Measured::config.vocab, 1);
    trainer.step([&](int) -> const Batch& { return batch; });
    trainer.evaluate(batch);
    const TrainingMemory plan = plan_training<Measured, TestType>(config);
    CHECK(static_cast<double>(device.memory().of("activations")) == Approx(static_cast<double>(plan.activations)).epsilon(0.05));
    CHECK(static_cast<double>(device.memory().of("moments")) == Approx(static_cast<double>(plan.moments)).epsilon(0.05));
    CHECK(static_cast<double>(device.memory().of("head")) == Approx(static_cast<double>(plan.head)).epsilon(0.05));
    const std::int64_t workspace = device.memory().of("workspace");  // of the CPU's ops; a GPU's may take what is planned
    CHECK(workspace <= plan.workspace);
    CHECK(static_cast<double>(device.memory().peak()) == Approx(static_cast<double>(plan.total() - plan.workspace + workspace)).epsilon(0.05));
  }
}

TEST_CASE("data that do not fit the model are refused with a sentence") {
  cpu::Device device({.threads = 1});
  Trainer<M> trainer(device, {.batch = {.full = 1}, .micro_batch = 1});
  Batch batch = models::random_batch(1, 12, M::config.vocab, 2);
  batch.targets[1] = M::config.vocab;
  const auto source = [&](int) -> const Batch& { return batch; };
  CHECK_THROWS_WITH(trainer.step(source), Catch::Matchers::Contains("another tokenizer"));
  batch = models::random_batch(1, 12, M::config.vocab, 2);
  batch.tasks[0] = static_cast<Task>(3);
  CHECK_THROWS_WITH(trainer.step(source), Catch::Matchers::Contains("row 0 of a batch is of task 3, and there are tasks 0 to 2"));
  batch = models::random_batch(1, M::config.context + 1, M::config.vocab, 2);
  CHECK_THROWS_WITH(trainer.step(source), Catch::Matchers::Contains("context of 24"));
  CHECK_THROWS_WITH(trainer.evaluate(models::random_batch(2, 12, M::config.vocab, 2)), Catch::Matchers::Contains("micro-batch of 1"));
}
