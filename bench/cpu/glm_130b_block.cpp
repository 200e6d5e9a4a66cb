// One block of GLM-130B at full size (1.8 billion parameters), forward on the CPU: INT4 and fp16 weights, a token and many, beside a pure read and the fp32 FMA rate.
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "golem/golem.hpp"
#include "limits.hpp"

namespace {

using M = golem::glm_130b;
using D = golem::cpu::Device;

/// Weights of the right size that cost nothing to make: what they are changes no speed.
struct PatternWeights : golem::TensorSource {
  bool has(const std::string& name) const override { return name.ends_with("_scale"); }
  void read(const golem::TensorState& tensor) const override {
    std::uint32_t state = 1;
    const auto next = [&] { return (state = state * 1664525u + 1013904223u) >> 24; };
    if (tensor.type == golem::DType::i8) {
      for (std::size_t i = 0; i < tensor.bytes; ++i) static_cast<std::uint8_t*>(tensor.data)[i] = static_cast<std::uint8_t>(next());
      return;
    }
    golem::float16 values[256];  // -0.02 to 0.02; gains and scales are of that size too
    for (int i = 0; i < 256; ++i) values[i] = golem::float16(static_cast<float>(i - 128) / 6400.0f);
    for (std::size_t i = 0; i < tensor.bytes / 2; ++i) static_cast<golem::float16*>(tensor.data)[i] = values[next()];
  }
};

struct WithScales : PatternWeights {
  bool has(const std::string& name) const override { return !name.empty(); }
};

/// range: tokens, threads.
template <class P>
void block(benchmark::State& state) {
  const int length = static_cast<int>(state.range(0));
  D device({.threads = static_cast<int>(state.range(1))});
  const golem::Stage stage{.first = 0, .last = 1, .embedding = false, .head = false};
  golem::WeightStore<M, P, 1, D> weights(device, stage);
  if constexpr (golem::QuantizedPrecision<P>) weights.load(WithScales());
  else weights.load(PatternWeights());
  const golem::TokenCount tokens{1, length, length};
  golem::StageMemory<M, golem::float16, 1, D> memory(device, golem::Keep::nothing, stage, tokens);
  golem::Transformer<M, P, 1, D> transformer(device, memory, stage);
  golem::TensorParallel<1> tp;

  golem::Batch batch{.rows = 1, .length = length, .tokens = std::vector<std::int32_t>(static_cast<std::size_t>(length)), .windows = {{0, length, length / 2}}, .first_window = {0, 1}};
  for (int t = 0; t < length; ++t) batch.positions.push_back(t);
  golem::RowsOnDevice<D> on_device;
  on_device.upload(device, batch, M::config);
  const golem::RotaryTables<M, float, D> rotary(device);
  const auto rows = on_device.rows<float>(rotary.cos(), rotary.sin());
  golem::Buffer<golem::float16, D> output(device, std::int64_t{length} * M::config.hidden, "activations");

  const auto bytes = static_cast<double>(device.memory().of("weights"));
  const double operations = length * (golem::linear_flops(M::config) + golem::attention_flops(M::config, length));
  const auto& up = weights.tensors().blocks[0].up.weight;  // 0.4 to 1.6 GB to read: past every cache
  const void* probe = nullptr;
  std::int64_t probe_bytes = 0;
  if constexpr (golem::QuantizedPrecision<P>) probe = up.data.data, probe_bytes = up.data.size();
  else probe = up.data, probe_bytes = up.size() * 2;
  std::vector<double> times, reads, peaks;
  for (auto _ : state) {
    const golem::View<golem::float16, 2> x = transformer.begin(tp, 0, 1, length);
    for (std::int64_t i = 0; i < x.size(); ++i) x.data[i] = golem::float16(static_cast<float>(i % 17) * 0.1f - 0.8f);
    reads.push_back(static_cast<double>(probe_bytes) / limits::read_seconds(device, probe, probe_bytes));
    peaks.push_back(limits::fma_operations(device) / limits::fma_seconds(device));
    const double start = limits::now();
    transformer.forward(tp, weights.tensors(), rows, 0, output.view_at(0, std::int64_t{length}, std::int64_t{M::config.hidden}));
    times.push_back(limits::now() - start);
    state.SetIterationTime(times.back());
  }
  const double seconds = limits::median(times);
  state.counters["tokens_per_s"] = length / seconds;
  state.counters["read_gb_s"] = bytes / seconds / 1e9;
  state.counters["of_pure_read"] = bytes / seconds / limits::median(reads);
  state.counters["gflops"] = operations / seconds / 1e9;
  state.counters["of_fma_peak"] = operations / seconds / limits::median(peaks);
  state.counters["weights_gb"] = bytes / 1e9;
}

void shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"tokens", "threads"})->Args({1, 1})->Args({1, 2})->Args({16, 2})->Args({128, 2})->UseManualTime()->Iterations(3)->Unit(benchmark::kMillisecond);
}

BENCHMARK_TEMPLATE(block, golem::quantized<golem::Quant{.bits = 4}, golem::fp16>)->Apply(shapes);
BENCHMARK_TEMPLATE(block, golem::fp16)->Apply(shapes);

}  // namespace

BENCHMARK_MAIN();
