// One block of GLM-130B at full size, forward, and forward with backward, beside the rate of a large product; its memory beside the plan.
// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <vector>

#include "counts.hpp"
#include "golem/golem.cuh"
#include "measure.cuh"
#include "report.hpp"

namespace {

using namespace golem;
using bench::shapes, bench::Workbench;

using M = bench::block_model;
using D = cuda::Device;

constexpr Stage stage{.first = 0, .last = 1, .embedding = false, .head = false};

/// Rows of the model's context with a prefix of half of each.
Batch batch_of(int rows, int length) {
  Batch batch{.rows = rows, .length = length, .tokens = std::vector<std::int32_t>(static_cast<std::size_t>(rows) * static_cast<std::size_t>(length)), .first_window = {0}};
  for (int r = 0; r < rows; ++r) {
    for (int t = 0; t < length; ++t) batch.positions.push_back(t);
    batch.windows.push_back({0, length, length / 2});
    batch.first_window.push_back(r + 1);
  }
  return batch;
}

/// Arguments: rows.
template <class P, bench::Pass pass>
void block(benchmark::State& state) {
  using T = typename P::compute;
  const int rows = static_cast<int>(state.range(0)), length = M::config.context;
  bench::on_device(state, [&](Workbench& bench) {
    D& device = bench.device;
    const FlatLayout layout(M::config, {stage}, 1, 1);
    Buffer<T, D> weights(device, layout.size(), "weights");
    Buffer<float, D> gradients(device, layout.size(), "gradients");
    bench::fill(device, weights.data(), weights.size(), 11, -0.02f, 0.02f);
    const auto w = layout.bind(M::config, stage, 1, 0, weights.view());
    const auto dw = layout.bind(M::config, stage, 1, 0, gradients.view());

    const TokenCount tokens{rows, length, std::int64_t{rows} * length};
    StageMemory<M, T, 1, D> memory(device, Keep::all, stage, tokens);
    Transformer<M, P, 1, D> transformer(device, memory, stage);
    TensorParallel<1> tp;
    const Batch batch = batch_of(rows, length);
    RowsOnDevice<D> on_device;
    on_device.upload(device, batch, M::config);
    const RotaryTables<M, float, D> rotary(device);
    const Rows<float> on_rows = on_device.rows<float>(rotary.cos(), rotary.sin());
    const std::int64_t elements = tokens.own * M::config.hidden;
    const std::int64_t held = device.memory().of("activations");
    const auto y = bench.numbers<T>(tokens.own, M::config.hidden), dx = bench.numbers<T>(tokens.own, M::config.hidden);
    const View<T, 2> x = transformer.begin(tp, 0, rows, length);
    bench::fill(device, x.data, elements, 12);

    const double flops = bench::block_flops(M::config, pass, static_cast<double>(tokens.own), bench::visible_pairs(batch.windows));
    bench.measure_flops(state, flops, [&](Workbench&) {
      return [&] {
        transformer.forward(tp, w, on_rows, 0, y);
        if constexpr (pass == bench::Pass::both) transformer.backward(tp, w, dw, on_rows, 0, y, {.dx = dx});
      };
    });

    bench::show_shapes(state, M::config, flops);
    const MicroBatch planned{.tokens = tokens.own, .own = tokens.own, .tp = 1, .compute = sizeof(T), .accumulate = sizeof(float)};
    const std::int64_t plan = kept_bytes(M::config, planned, Recompute::none, stage) + shared_bytes(M::config, planned, Recompute::none);
    state.SetLabel(sentence("activations: ", held, " bytes, planned ", plan));
    state.counters["activations"] = static_cast<double>(held);
    state.counters["planned"] = static_cast<double>(plan);
  });
}

constexpr auto sizes = [](auto* b) {
  b->ArgNames({"rows"});
  for (const int rows : shapes.block_rows) b->Args({rows});
  bench::timed(b);
};

}  // namespace

BENCHMARK_TEMPLATE(block, golem::bf16_mixed, bench::Pass::forward)->Apply(sizes);
BENCHMARK_TEMPLATE(block, golem::bf16_mixed, bench::Pass::both)->Apply(sizes);

int main(int argc, char** argv) { return bench::run(argc, argv); }
