// A new token through a whole model from its cache, chosen greedily: 24 x 2048, vocabulary 150528, half a context before it, beside a copy of as many bytes.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "golem/golem.cuh"
#include "measure.cuh"
#include "report.hpp"

namespace {

using namespace golem;
using bench::Workbench;

using M = bench::step_model;
using D = cuda::Device;

/// Weights that are the same random elements again and again: integers as they come, others in [-0.05, 0.05).
class RepeatedWeights : public TensorSource {
 public:
  RepeatedWeights() {
    for (std::size_t i = 0; i < elements; ++i) {
      const double x = Random{4, 1}.uniform(i);
      integers_.push_back(static_cast<std::uint8_t>(256 * x)), numbers_.push_back(float16(static_cast<float>(0.1 * x - 0.05)));
    }
  }
  bool has(const std::string&) const override { return true; }
  void read(const TensorState& tensor) const override {
    require(tensor.type == DType::i8 || tensor.type == DType::f16, "the weights of the benchmark are of fp16, or quantised, and '", tensor.name, "' is of ", name_of(tensor.type));
    const void* from = tensor.type == DType::i8 ? static_cast<const void*>(integers_.data()) : numbers_.data();
    const std::size_t piece = elements * static_cast<std::size_t>(size_of(tensor.type));
    for (std::size_t done = 0; done < tensor.bytes; done += piece) std::memcpy(static_cast<std::byte*>(tensor.data) + done, from, std::min(piece, tensor.bytes - done));
  }

 private:
  static constexpr std::size_t elements = 1000003;  // a prime, so that rows differ
  std::vector<std::uint8_t> integers_;
  std::vector<float16> numbers_;
};

/// Whether kernels are started while those before them end.
enum class Start { early, in_turn };

/// Argument: sequences that each get a token at once.
template <class P, Start start = Start::early>
void decode(benchmark::State& state) {
  const int sequences = static_cast<int>(state.range(0)), cached = M::config.context / 2;
  const auto generate = [&](Workbench& bench) {
    Engine<M, P, Layout{}, D> engine(bench.device, {.sequences = sequences});
    engine.load_weights(RepeatedWeights{});
    const Sampling greedy{.top_k = 1};
    const AnswerRules rules(greedy, SpecialTokens{}, M::config.vocab);
    std::vector<Sampler> samplers(static_cast<std::size_t>(sequences), Sampler(greedy));
    std::vector<std::int32_t> tokens, positions;
    for (std::int32_t t = 0; t < cached; ++t) tokens.push_back(t % M::config.vocab), positions.push_back(t);
    std::vector<SequenceStep> steps;
    std::vector<TokenDraw> draws;
    for (int s = 0; s < sequences; ++s) {
      const SequenceStep prompt{.slot = s, .prefix = cached - 1, .tokens = std::span(tokens).first(tokens.size() - 1), .positions = std::span(positions).first(positions.size() - 1)};
      const TokenDraw draw{&samplers[static_cast<std::size_t>(s)]};
      engine.next_tokens({&prompt, 1}, {&draw, 1}, rules);
      steps.push_back({.slot = s, .first = cached - 1, .prefix = cached - 1, .tokens = std::span(tokens).last(1), .positions = std::span(positions).last(1)});
      draws.push_back(draw);
    }
    const MemoryAccount& held = bench.device.memory();
    const double cache = static_cast<double>(held.of("key-value cache")) * cached / engine.capacity(), bytes = static_cast<double>(held.of("weights")) + cache;
    for (int warm = 0; warm < 3; ++warm) engine.next_tokens(steps, draws, rules);  // planned, then captured
    bench::sample<bench::CopyLimit>(state, bench.device, bytes, [&](std::int64_t) { engine.next_tokens(steps, draws, rules); });
    state.SetLabel(sentence(static_cast<std::int64_t>(1e3 * sequences / state.counters["ms"]), " tokens/s; ", static_cast<std::int64_t>(bytes) >> 20, " MiB, ", static_cast<std::int64_t>(cache) >> 20,
                            " of them of the cache; graphs run: ", bench.device.graphs_run()));
  };
  bench::on_device(state, generate, {.early = start == Start::early});
}

constexpr auto sizes = [](auto* b) {
  b->ArgNames({"sequences"});
  for (const int sequences : {1, 8}) b->Args({sequences});
  bench::timed(b);
};

}  // namespace

BENCHMARK_TEMPLATE(decode, golem::fp16)->Apply(sizes);
BENCHMARK_TEMPLATE(decode, golem::quantized<golem::Quant{.bits = 8}, golem::fp16>)->Apply(sizes);
BENCHMARK_TEMPLATE(decode, golem::quantized<golem::Quant{.bits = 4}, golem::fp16>)->Apply(sizes);
BENCHMARK_TEMPLATE(decode, golem::quantized<golem::Quant{.bits = 4}, golem::fp16>, Start::in_turn)->Apply(sizes);

int main(int argc, char** argv) { return bench::run(argc, argv); }
