// A training step of a GLM of the 1.3B class: its share of the datasheet's peak (MFU) and of a large product's rate; memory beside the plan.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <string>
#include <vector>

#include "counts.hpp"
#include "golem/golem.cuh"
#include "measure.cuh"
#include "report.hpp"

namespace {

using namespace golem;
using bench::shapes, bench::Workbench;

using M = bench::step_model;
using D = cuda::Device;

/// Random tokens, each of them scored; rows of the model's context with a prefix of half of each.
Batch batch_of(int rows, std::uint64_t seed) {
  const ModelConfig& c = M::config;
  Batch batch{.rows = rows, .length = c.context, .first_window = {0}};
  const Random random{seed, 1};
  for (int r = 0; r < rows; ++r) {
    for (int t = 0; t < c.context; ++t) {
      const std::uint64_t i = 2 * batch.tokens.size();
      batch.tokens.push_back(static_cast<std::int32_t>(random.below(i, static_cast<std::uint64_t>(c.vocab))));
      batch.targets.push_back(static_cast<std::int32_t>(random.below(i + 1, static_cast<std::uint64_t>(c.vocab))));
      batch.positions.push_back(t);
    }
    batch.windows.push_back({0, c.context, c.context / 2});
    batch.first_window.push_back(r + 1);
    batch.tasks.push_back(Task::generation);
  }
  return batch;
}

std::string mebibytes(std::int64_t bytes) { return sentence(bytes >> 20, " MiB"); }

double thousandths(double part) { return std::round(1000 * part) / 1000; }

/// Arguments: rows of a step, rows of a micro-batch.
template <class P, cuda::ProductChoice choice>
void step(benchmark::State& state) {
  const int rows = static_cast<int>(state.range(0)), micro_batch = static_cast<int>(state.range(1));
  const auto train = [&](Workbench& bench) {
    const TrainingConfig config{.learning_rate = {.peak = 1e-5, .min = 1e-6}, .batch = {.full = rows}, .micro_batch = micro_batch, .head_tokens = shapes.step_scored};
    const TrainingMemory plan = plan_training<M, P>(config);
    Trainer<M, P, Layout{}, D> trainer(bench.device, config);
    std::vector<Batch> batches;
    for (std::uint64_t i = 0; i < 4; ++i) batches.push_back(batch_of(micro_batch, i));
    std::size_t next = 0;
    const auto source = [&](int) -> const Batch& { return batches[next++ % batches.size()]; };

    // Before the limit's own matrices come: the plan is of training alone.
    trainer.step(source);
    const MemoryAccount& held = bench.device.memory();
    const auto label = sentence("memory: ", mebibytes(held.peak()), ", planned ", mebibytes(plan.total()), "; held: ", held.summary(), "; planned: weights ", mebibytes(plan.weights),
                                ", master weights ", mebibytes(plan.master_weights), ", gradients ", mebibytes(plan.gradients), ", moments ", mebibytes(plan.moments), ", activations ",
                                mebibytes(plan.activations), ", head ", mebibytes(plan.head), ", workspace ", mebibytes(plan.workspace));
    state.counters["held"] = static_cast<double>(held.peak());
    state.counters["planned"] = static_cast<double>(plan.total());

    const double tokens = static_cast<double>(rows) * M::config.context, pairs = rows * bench::visible_pairs(batches[0].windows) / micro_batch;
    const double flops = training_flops(M::config, M::config.context, rows, Recompute::none);  // all pairs, as spec 4.4 counts and MFU is compared
    bench::sample<bench::ProductLimit>(state, bench.device, flops, [&](std::int64_t) { trainer.step(source); });

    bench::show_shapes(state, M::config, flops);
    const double seconds = 1e-3 * state.counters["ms"];
    state.counters["tokens/s"] = tokens / seconds;
    const Hardware* sheet = bench::datasheet_of(bench.device.name());
    const double peak = sheet ? sheet->rate(dtype_of<typename P::compute>()) : 0;
    std::string text = sentence(static_cast<std::int64_t>(tokens / seconds), " tokens/s; ");
    if (peak > 0) {
      state.counters["mfu"] = utilisation(M::config, rows, Recompute::none, seconds, 1, peak);
      state.counters["mfu_visible_pairs"] = bench::step_flops(M::config, tokens, tokens, pairs) / seconds / peak;
      text += sentence("MFU ", thousandths(state.counters["mfu"]), " of ", static_cast<std::int64_t>(peak * 1e-12), " TFLOP/s, with visible pairs alone ",
                       thousandths(state.counters["mfu_visible_pairs"]), "; ");
    } else {
      text += "no datasheet of this chip in config/hardware.hpp, so no MFU; ";
    }
    state.SetLabel(text + label);
  };
  bench::on_device(state, train, {.products = choice});
}

constexpr auto sizes = [](auto* b) {
  b->ArgNames({"rows", "micro_batch"})->Args({shapes.step_rows, shapes.micro_batch});
  bench::timed_long(b);
};

}  // namespace

BENCHMARK_TEMPLATE(step, golem::bf16_mixed, cuda::ProductChoice::proposed)->Apply(sizes);
BENCHMARK_TEMPLATE(step, golem::bf16_mixed, cuda::ProductChoice::fastest)->Apply(sizes);

int main(int argc, char** argv) { return bench::run(argc, argv); }
