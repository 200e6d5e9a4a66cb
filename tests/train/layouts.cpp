// Any layout computes what one rank computes: bit for bit where the order of additions is the same, else up to rounding.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "catch.hpp"
#include "train/layout_runs.hpp"
#include "worse.hpp"

using namespace layouts;

namespace {

const TrainingConfig base{.learning_rate = {.peak = 1e-2, .min = 1e-3, .warmup_samples = 16, .decay_samples = 200},
                          .batch = {.full = 16},
                          .micro_batch = 2,
                          .shrink = {.alpha = 0.3, .ramp_from = 3, .ramp_steps = 4, .where = EmbeddingShrink::Where::input_and_head},
                          .check_every = 7};

/// The rows of a step on `dp` data ranks: 16, or as many below as they divide in whole micro-batches.
std::int64_t rows_for(int dp) { return base.batch.full / (base.micro_batch * dp) * (base.micro_batch * dp); }

/// What one rank computes of steps of as many rows; each is run once.
struct Alone {
  Outcome (*runner)(const Run&);
  std::map<std::int64_t, Outcome> outcomes = {};

  const Outcome& operator()(std::int64_t rows) {
    if (!outcomes.contains(rows)) {
      Run run{.training = base};
      run.training.batch.full = rows;
      outcomes.emplace(rows, runner(run));
    }
    return outcomes.at(rows);
  }
};

/// Variants of a run on a layout: schedules, ZeRO-1, sequence parallelism, recomputation, in all combinations that exist.
std::vector<Run> variants(Layout layout) {
  struct Pipeline {
    PipelineSchedule schedule;
    int chunks;
  };
  std::vector<Pipeline> pipelines{{PipelineSchedule::one_f_one_b, 1}};
  if (layout.pp > 1) pipelines.insert(pipelines.end(), {{PipelineSchedule::gpipe, 1}, {PipelineSchedule::zero_bubble, 1}});
  for (int chunks = 2; layout.pp > 1 && chunks <= 4; ++chunks)
    if (layout.pp * chunks <= Model::config.layers + 2 && rows_for(layout.dp) / layout.dp / base.micro_batch % layout.pp == 0) pipelines.push_back({PipelineSchedule::interleaved, chunks});
  std::vector<Run> runs;
  for (const Pipeline& pipeline : pipelines)
    for (const Recompute recompute : {Recompute::none, Recompute::attention, Recompute::block, Recompute::block_split})
      for (const int zero : {0, 1})
        for (const bool sequence_parallel : {false, true}) {
          if ((zero && layout.dp == 1) || (layout.tp == 1 && (sequence_parallel || recompute == Recompute::block_split))) continue;
          Run run{.layout = layout, .training = base};
          run.training.batch.full = rows_for(layout.dp);
          run.layout.sequence_parallel = sequence_parallel;
          run.training.schedule = pipeline.schedule, run.training.chunks = pipeline.chunks, run.training.recompute = recompute, run.training.zero = zero;
          runs.push_back(run);
        }
  return runs;
}

/// Whether every variant is asked for: minutes.
bool test_all() { return std::getenv("GOLEM_TEST_ALL") != nullptr; }

/// Every layout of up to 8 ranks whose tensor degree fits the model, with every variant where all are asked for, else with one, which take turns, and with those
/// combinations that these turns would leave out.
std::vector<Run> all_runs() {
  std::vector<Run> runs;
  std::size_t turn = 0;
  for (const int tp : {1, 2, 4, 8})
    for (int pp = 1; pp * tp <= 8; ++pp)
      for (int dp = 1; tp * pp * dp <= 8; ++dp) {
        if (tp * pp * dp == 1) continue;
        const std::vector<Run> some = variants({.tp = tp, .pp = pp, .dp = dp});
        if (test_all()) runs.insert(runs.end(), some.begin(), some.end());
        else runs.push_back(some[turn = (turn + 7) % some.size()]);
      }
  const auto also = [&](Layout layout, PipelineSchedule schedule, int chunks, Recompute recompute) {
    Run run{.layout = layout, .training = base};
    run.training.batch.full = rows_for(layout.dp);
    run.training.schedule = schedule, run.training.chunks = chunks, run.training.recompute = recompute;
    runs.push_back(run);
  };
  if (!test_all()) {
    also({.tp = 2, .pp = 2, .sequence_parallel = true}, PipelineSchedule::interleaved, 2, Recompute::block_split);
    also({.tp = 2, .pp = 2, .dp = 2, .sequence_parallel = true}, PipelineSchedule::zero_bubble, 1, Recompute::block);
    also({.pp = 2}, PipelineSchedule::interleaved, 4, Recompute::attention);
  }
  return runs;
}

/// One variant of each layout, which take turns.
std::vector<Run> one_each(const std::vector<Layout>& layouts) {
  std::vector<Run> runs;
  std::size_t turn = 0;
  for (const Layout& layout : layouts) {
    const std::vector<Run> some = variants(layout);
    runs.push_back(some[turn = (turn + 11) % some.size()]);
  }
  return runs;
}

std::string name_of(const Run& run) {
  constexpr const char* recompute[]{"", ", attention again", ", blocks again", ", blocks again from split inputs"};
  const TrainingConfig& t = run.training;
  return sentence("tp ", run.layout.tp, ", pp ", run.layout.pp, ", dp ", run.layout.dp, run.layout.sequence_parallel ? ", sequence parallel" : "", ", ", golem::name_of(t.schedule), " x ", t.chunks,
                  t.zero ? ", ZeRO-1" : "", recompute[static_cast<int>(t.recompute)]);
}

double norm(const std::vector<double>& x) {
  double squares = 0;
  for (const double v : x) squares += v * v;
  return std::sqrt(squares);
}
double norm(const Tensors& tensors) {
  double squares = 0;
  for (const auto& [name, x] : tensors) squares += norm(x) * norm(x);
  return std::sqrt(squares);
}
Tensors difference(const Tensors& a, const Tensors& b) {
  REQUIRE(a.size() == b.size());
  Tensors out = a;
  for (auto& [name, x] : out) {
    REQUIRE(b.at(name).size() == x.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] -= b.at(name)[i];
  }
  return out;
}
/// The largest difference of a tensor, relative to its norm; tensors below `floor` of the norm of all count absolutely.
double largest_relative(const Tensors& a, const Tensors& b, double floor = 0) {
  double largest = 0;
  const double whole = norm(a);
  for (const auto& [name, d] : difference(a, b)) {
    const double scale = norm(a.at(name));
    largest = tests::worse(largest, norm(d) / (scale > floor * whole ? scale : whole));
  }
  return largest;
}

double largest(const Tensors& tensors) {
  double most = 0;
  for (const auto& [name, x] : tensors)
    for (const double v : x) most = tests::worse(most, std::abs(v));
  return most;
}
/// The bias of keys moves all scores of a query alike: its gradient is zero by algebra, what a run sees of it is rounding, and
/// Adam makes steps of that.
std::vector<double> without_key_bias(const std::string& name, std::vector<double> x) {
  if (!name.ends_with("query_key_value.bias")) return x;
  constexpr const ModelConfig& c = Model::config;
  const auto dim = static_cast<std::size_t>(c.head_dim()), sharers = static_cast<std::size_t>(c.heads / c.key_heads());
  for (std::size_t i = 0; i < x.size(); ++i)
    if (i / dim % (sharers + 2) == sharers) x[i] = 0;
  return x;
}

}  // namespace

TEST_CASE("a NaN fails every comparison of tensors, wherever it is") {
  const Tensors good{{"a", {1, 2}}, {"b", {3, 4}}};
  for (const char* name : {"a", "b"})
    for (const std::size_t element : {0u, 1u}) {
      Tensors bad = good;
      bad[name][element] = std::numeric_limits<double>::quiet_NaN();
      CHECK_FALSE(largest_relative(good, bad) < 1e9);
      CHECK_FALSE(largest(bad) < 1e9);
    }
  CHECK(largest_relative(good, good) == 0);
}

TEST_CASE("in double precision every layout is the single rank, within 1e-9 after 20 steps") {
  Alone alone{run_fp64}, alone_dropping{run_fp64_dropping};
  CHECK(alone(16).reports.front().loss > 10);
  CHECK(alone(16).reports.back().loss < 6);  // it learns
  std::size_t number = 0;
  for (const Run& run : all_runs()) {
    INFO(name_of(run));
    const bool dropping = ++number % 3 == 0;
    const Outcome& expected = (dropping ? alone_dropping : alone)(run.training.batch.full);
    const Outcome many = dropping ? run_fp64_dropping(run) : run_fp64(run);
    CHECK(largest_relative(expected.gradients, many.gradients) < 1e-12);
    CHECK(largest_relative(expected.state.tensors, many.state.tensors) < 1e-9);
    CHECK(many.state.integers == expected.state.integers);
    CHECK(many.reports.back().loss == Approx(expected.reports.back().loss).epsilon(1e-11));
    CHECK(many.reports.back().gradient_norm == Approx(expected.reports.back().gradient_norm).epsilon(1e-9));
    CHECK(many.reports.back().tokens == expected.reports.back().tokens);
    for (std::size_t task = 0; task < 2; ++task) CHECK(many.reports.back().tasks[task].rows == expected.reports.back().tasks[task].rows);
    CHECK(many.evaluated.loss() == Approx(expected.evaluated.loss()).epsilon(1e-11));
  }
}

TEST_CASE("rows whose length no degree divides are padded, and drop what they drop on one rank") {
  const Outcome one = run_fp64_dropping({.training = base, .steps = 3, .length = 13});
  for (const Layout layout : {Layout{.tp = 4, .sequence_parallel = true}, Layout{.tp = 2, .pp = 2, .dp = 2, .sequence_parallel = true}}) {
    const Outcome many = run_fp64_dropping({.layout = layout, .training = base, .steps = 3, .length = 13});
    CHECK(largest_relative(one.gradients, many.gradients) < 1e-12);
    CHECK(largest_relative(one.state.tensors, many.state.tensors) < 1e-9);
    CHECK(many.reports.back().tokens == one.reports.back().tokens);
  }
}

TEST_CASE("in single precision layouts differ from one rank by rounding only") {
  Alone alone{run_fp32};
  for (const Run& run : one_each({{.tp = 2}, {.pp = 2}, {.dp = 2}, {.dp = 3}, {.pp = 3, .dp = 2}, {.tp = 2, .pp = 2, .dp = 2}, {.tp = 4, .dp = 2}, {.tp = 8}})) {
    INFO(name_of(run));
    const Outcome &one = alone(run.training.batch.full), many = run_fp32(run);
    for (std::size_t i = 0; i < 20; ++i) CHECK(many.reports[i].loss == Approx(one.reports[i].loss).epsilon(1e-6));
    CHECK(largest_relative(one.gradients, many.gradients, 1e-6) < 1e-5);
    Tensors weights, moved;
    for (const auto& [name, d] : difference(one.state.tensors, many.state.tensors))
      if (!name.starts_with("optimizer.")) weights[name] = one.state.tensors.at(name), moved[name] = without_key_bias(name, d);
    CHECK(largest(moved) < 0.05 * base.learning_rate.peak);
    CHECK(norm(moved) < 1e-5 * norm(weights));
  }
}

TEST_CASE("pipelines and data ranks compute the bits of one rank that adds in their order") {
  const int steps = test_all() ? 20 : 8;  // replicas are compared behind the seventh (check_every)
  for (const auto& [pp, dp] : {std::pair{2, 1}, {3, 1}, {8, 1}, {1, 2}, {1, 3}, {1, 4}, {1, 8}, {2, 2}, {2, 4}, {4, 2}}) {
    Run alone{.training = base, .steps = steps};
    alone.training.batch.full = rows_for(dp);
    alone.training.add_like = {.data_ranks = dp, .stages = pp > 1};
    const Outcome one = run_fp32(alone);
    for (Run& run : variants({.pp = pp, .dp = dp})) {
      if (run.training.zero) continue;  // norms are then added from pieces
      run.steps = steps;
      INFO(name_of(run));
      const Outcome many = run_fp32(run);
      CHECK(many.gradients == one.gradients);
      CHECK(many.state.tensors == one.state.tensors);
    }
  }
}

TEST_CASE("a run goes on under another layout") {
  const Outcome straight = run_fp64({.training = base, .steps = 12}), half = run_fp64({.layout = {.tp = 2, .pp = 2, .dp = 2}, .training = base, .steps = 6});
  for (const Layout layout : {Layout{}, Layout{.tp = 2, .pp = 2, .dp = 2}, Layout{.tp = 4, .sequence_parallel = true}, Layout{.dp = 8}, Layout{.pp = 3}}) {
    Run run{.layout = layout, .training = base, .steps = 6, .resumed = &half.state};
    run.training.zero = layout.dp > 1;
    INFO(name_of(run));
    CHECK(largest_relative(straight.state.tensors, run_fp64(run).state.tensors) < 1e-9);
  }
  Run same{.layout = {.tp = 2, .pp = 2, .dp = 2}, .training = base, .steps = 12};
  const Outcome uninterrupted = run_fp32(same);
  same.steps = 6;
  const Outcome first = run_fp32(same);
  same.resumed = &first.state;
  const Outcome second = run_fp32(same);
  CHECK(second.state.tensors == uninterrupted.state.tensors);
  CHECK(second.state.reals == uninterrupted.state.reals);
}

TEST_CASE("mixed precision: the loss of every layout stays within the rounding of its type") {
  for (const auto& [runner, bound] : {std::pair{&run_bf16, 0.03}, {&run_fp16, 0.01}, {&run_fp16_gradients, 0.01}}) {
    Alone alone{runner};
    for (const Run& run : one_each({{.tp = 2}, {.tp = 2, .pp = 2, .dp = 2}, {.tp = 4}, {.pp = 4}, {.pp = 2, .dp = 3}})) {
      INFO(name_of(run));
      const Outcome &one = alone(run.training.batch.full), many = runner(run);
      for (std::size_t i = 0; i < 20; ++i) CHECK(many.reports[i].loss == Approx(one.reports[i].loss).epsilon(bound));
      CHECK(many.reports.back().loss_scale == one.reports.back().loss_scale);
    }
  }
}

TEST_CASE("gradients that are added up in fp16 differ from fp32's by its rounding") {
  const Outcome wide = run_fp16({.training = base, .steps = 1});
  for (const PipelineSchedule schedule : {PipelineSchedule::one_f_one_b, PipelineSchedule::zero_bubble}) {
    Run run{.layout = {.pp = 2}, .training = base, .steps = 1};
    run.training.schedule = schedule;
    const double difference = largest_relative(wide.gradients, run_fp16_gradients(run).gradients, 1e-6);
    CHECK(difference > 1e-6);
    CHECK(difference < 2e-3);
  }
}

TEST_CASE("uneven micro-batches, batches that grow, rows of odd length and rows without targets are the same on every layout") {
  Run alone{.training = base, .steps = 6, .length = 13, .gaps = true};
  alone.training.batch = {.full = 20, .start = 4, .increment = 8, .ramp_samples = 30};
  alone.training.micro_batch = 3;
  const Outcome one = run_fp64(alone);
  for (const Layout layout : {Layout{.dp = 2}, Layout{.pp = 3}, Layout{.tp = 2, .sequence_parallel = true}, Layout{.tp = 4}, Layout{.tp = 2, .pp = 2, .dp = 2, .sequence_parallel = true}}) {
    for (const PipelineSchedule schedule : {PipelineSchedule::one_f_one_b, PipelineSchedule::zero_bubble}) {
      Run run = alone;
      run.layout = layout;
      run.training.schedule = schedule;
      run.training.recompute = layout.tp == 4 ? Recompute::block_split : Recompute::none;
      run.training.zero = layout.dp > 1;
      INFO(name_of(run));
      const Outcome many = run_fp64(run);
      CHECK(largest_relative(one.state.tensors, many.state.tensors) < 1e-9);
      CHECK(many.evaluated.loss() == Approx(one.evaluated.loss()).epsilon(1e-11));
      CHECK(many.reports.back().loss == Approx(one.reports.back().loss).epsilon(1e-11));
    }
  }
}

/// Makes one element of the gradients infinite, in a part that another rank owns.
class Overflowing final : public PassingBackend {
 public:
  using PassingBackend::PassingBackend;
  std::unique_ptr<PendingTransfer> start(const Transfer& transfer) override {
    if (axis() == "data" && transfer.kind == Transfer::Kind::reduce_scatter && rank() == 0)
      static_cast<float*>(const_cast<void*>(transfer.in))[transfer.count] = std::numeric_limits<float>::infinity();
    return inner().start(transfer);
  }
  std::shared_ptr<Backend> split(int color, int key, std::string_view axis) override { return std::make_shared<Overflowing>(inner().split(color, key, axis)); }
};

TEST_CASE("an overflow that one rank sees skips the step on all") {
  Run run{.layout = {.dp = 2}, .training = base, .steps = 3};
  run.training.zero = 1;
  run.training.loss_scale = {.initial = 1024, .hysteresis = 1};
  CHECK_FALSE(run_fp16(run).reports.back().skipped);
  const auto wrap = [](Group all) { return Group(std::make_shared<Overflowing>(all.backend())); };
  run.wrap = wrap;
  const Outcome many = run_fp16(run);
  for (const StepReport& report : many.reports) CHECK(report.skipped);
  CHECK(many.state.integers.at("applied_steps") == 0);
  CHECK(many.state.reals.at("loss_scale.scale") == 1024.0 / 8);
}
