// A training step of one transformer block: forward, and backward to input and weights, beside the machine's fp32 FMA rate.
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include <vector>

#include "golem/golem.hpp"
#include "limits.hpp"

namespace {

template <int hidden>
struct Model {
  static constexpr auto config = golem::checked({.layers = 12, .hidden = hidden, .heads = hidden / 64, .ffn = hidden == 768 ? 2048 : 2752, .vocab = 4096, .context = 512});
};

/// Multiply-adds count as two; attention over the pairs that the mask leaves (prefix of half the row).
template <int hidden>
double flops(int rows) {
  constexpr golem::ModelConfig c = Model<hidden>::config;
  const double tokens = 512.0 * rows, pairs = rows * 512.0 * 512.0 * (0.25 + 0.375);
  const double linear = 2.0 * tokens * (4.0 * hidden * hidden + 3.0 * hidden * c.ffn);
  return 3 * linear + (4 + 10) * pairs * hidden;
}

/// range: rows, threads.
template <int hidden, class P>
void block(benchmark::State& state) {
  using M = Model<hidden>;
  using T = typename P::compute;
  using D = golem::cpu::Device;
  const int rows = static_cast<int>(state.range(0)), length = 512;
  D device({.threads = static_cast<int>(state.range(1))});
  const golem::Stage stage{.first = 0, .last = 1, .embedding = false, .head = false};
  const golem::FlatLayout layout(M::config, {stage}, 1, 1);
  const std::int64_t size = layout.size(), n = std::int64_t{rows} * length;
  golem::Buffer<T, D> weights(device, size, "weights");
  golem::Buffer<float, D> gradients(device, size, "gradients");
  for (std::int64_t i = 0; i < size; ++i) weights.data()[i] = T(0.02f * static_cast<float>(golem::Random{1, 2}.normal(static_cast<std::uint64_t>(i))));
  const auto w = layout.bind(M::config, stage, 1, 0, weights.view()).blocks[0];
  const auto dw = layout.bind(M::config, stage, 1, 0, gradients.view()).blocks[0];

  golem::Arena measure;
  const auto lay_out = [&](golem::Arena& arena, auto& s, auto& g, auto& scratch, auto& x, auto& y, auto& dx) {
    const golem::TokenCount tokens{rows, length, n};
    s = golem::BlockActivations<T>::take(arena, M::config, 1, tokens);
    s = golem::AttentionActivations<T>::take(arena, M::config, 1, tokens);
    g = golem::BlockGradients<T>::take(arena, M::config, 1, tokens);
    scratch = golem::BlockScratch<T>::take(arena, M::config, 1, tokens);
    for (golem::View<T, 2>* view : {&x, &y, &dx}) *view = arena.take<T>(n, hidden);
    s.x = x;
  };
  golem::BlockActivations<T> s;
  golem::BlockGradients<T> g;
  golem::BlockScratch<T> scratch;
  golem::View<T, 2> x, y, dx;
  lay_out(measure, s, g, scratch, x, y, dx);
  golem::Buffer<std::byte, D> memory(device, static_cast<std::int64_t>(measure.used()), "activations");
  golem::Arena arena(memory.data(), memory.bytes());
  lay_out(arena, s, g, scratch, x, y, dx);

  golem::Batch batch{.rows = rows, .length = length, .tokens = std::vector<std::int32_t>(static_cast<std::size_t>(n)), .positions = {}, .first_window = {0}};
  for (int r = 0; r < rows; ++r) {
    for (int t = 0; t < length; ++t) batch.positions.push_back(t);
    batch.windows.push_back({0, length, length / 2});
    batch.first_window.push_back(r + 1);
  }
  golem::RowsOnDevice<D> on_device;
  on_device.upload(device, batch, M::config);
  const golem::RotaryTables<M, float, D> rotary(device);
  const auto on_rows = on_device.rows<float>(rotary.cos(), rotary.sin());
  const golem::Block<M, T, 1> layer(0);
  golem::TensorParallel<1> tp;

  std::vector<double> steps, peaks;
  for (auto _ : state) {
    for (std::int64_t i = 0; i < n * hidden; ++i) x.data[i] = T(static_cast<float>(i % 17) * 0.1f - 0.8f);
    peaks.push_back(limits::fma_operations(device) / limits::fma_seconds(device));
    const double start = limits::now();
    layer.forward(device, tp, y, w, s, scratch, on_rows);
    golem::BlockGradients<T> gradient = g;
    gradient.down = {};
    layer.backward_input(device, tp, dx, y, w, dw, s, gradient, scratch, on_rows);
    layer.backward_weight(device, tp, dw, s, gradient, scratch);
    steps.push_back(limits::now() - start);
    state.SetIterationTime(steps.back());
  }
  const double rate = flops<hidden>(rows) / limits::median(steps), peak = limits::median(peaks);
  state.counters["ms"] = 1e3 * limits::median(steps);
  state.counters["gflops"] = rate / 1e9;
  state.counters["fma_gflops"] = peak / 1e9;
  state.counters["of_fma_peak"] = rate / peak;
}

void shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"rows", "threads"})->Args({1, 1})->Args({4, 1})->Args({4, 2})->UseManualTime()->Iterations(9)->Unit(benchmark::kMillisecond);
}

BENCHMARK_TEMPLATE(block, 768, golem::fp32)->Apply(shapes);
BENCHMARK_TEMPLATE(block, 1024, golem::fp32)->Apply(shapes);
BENCHMARK_TEMPLATE(block, 768, golem::bf16_mixed)->Apply(shapes);
BENCHMARK_TEMPLATE(block, 1024, golem::bf16_mixed)->Apply(shapes);

}  // namespace

BENCHMARK_MAIN();
