// What tokens cost beside attention: the widest quantised product of GLM-130B's attention, and the choice among its vocabulary, beside a copy of as many bytes or a large product of cuBLASLt.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "golem/config/plan_inference.hpp"
#include "golem/config/quantized_tensor.hpp"
#include "golem/cuda/quantized_gemm.cuh"
#include "golem/cuda/sampling.cuh"
#include "measure.cuh"
#include "report.hpp"

namespace {

using namespace golem;
using bench::shapes, bench::Workbench;

constexpr std::int64_t inputs = shapes.hidden, outputs = 3 * shapes.hidden;

/// A product of n new tokens. Weights are bits of random numbers, whatever integers they make.
template <class T, Quant Q>
auto product(Workbench& w, std::int64_t n) {
  const auto x = w.read(w.numbers<T>(n, inputs));
  const auto bias = w.read(w.numbers<T>(outputs));
  const auto y = w.write(w.numbers<T>(n, outputs));
  const auto bytes = w.read(w.numbers<bfloat16>(outputs * Q.row_bytes(inputs) / 2));
  const auto scales = w.read(w.numbers<float16>(outputs, Q.groups(inputs)));
  const QuantizedView<Q, const std::uint8_t> weights(outputs, inputs, reinterpret_cast<const std::uint8_t*>(bytes.data), scales.data);
  return [=, &w] { cuda::project(w.device, y, x, weights, bias); };
}

/// Argument: new tokens.
template <class T, Quant Q>
void project(benchmark::State& state) {
  bench::on_device(state, [&](Workbench& b) { b.measure_bytes(state, [n = state.range(0)](Workbench& w) { return product<T, Q>(w, n); }); });
}
template <class T, Quant Q>
void project_many(benchmark::State& state) {
  const double flops = 2.0 * static_cast<double>(state.range(0)) * static_cast<double>(inputs) * static_cast<double>(outputs);
  bench::on_device(state, [&](Workbench& b) { b.measure_flops(state, flops, [n = state.range(0)](Workbench& w) { return product<T, Q>(w, n); }); });
}

/// Logits are fp32; top_k 1 is the greedy choice, 0 draws from all of them.
void choose_token(benchmark::State& state) {
  const TokenChoice choice{.temperature = 0.9f, .top_k = static_cast<int>(state.range(0)), .top_p = static_cast<float>(state.range(1)) / 10, .uniform = 0.5};
  bench::on_device(state, [&](Workbench& b) {
    b.measure_bytes(state, [choice](Workbench& w) {
      const auto logits = w.read(w.numbers_in<float>(-8, 8, shapes.vocab));
      const auto memory = w.write(w.numbers<float>(std::int64_t{sizeof(ChosenToken) / sizeof(float)}));
      const View<ChosenToken, 1> chosen{reinterpret_cast<ChosenToken*>(memory.data), 1};
      return [=, &w] { cuda::choose_token(w.device, chosen, logits, View<const std::int32_t, 1>{}, choice); };
    });
  });
}

constexpr auto tokens = [](auto* b) {
  b->ArgNames({"N"});
  for (const std::int64_t n : {1, 8}) b->Args({n});
  bench::timed(b);
};
constexpr auto many_tokens = [](auto* b) {  // on both sides of fewest_dequantized_tokens
  b->ArgNames({"N"});
  for (const std::int64_t n : {std::int64_t{64}, fewest_dequantized_tokens - 1, fewest_dequantized_tokens, std::int64_t{512}, shapes.tokens}) b->Args({n});
  bench::timed(b);
};
constexpr auto choices = [](auto* b) {
  b->ArgNames({"top_k", "top_p_tenths"});
  b->Args({1, 0})->Args({0, 0})->Args({40, 9});
  bench::timed(b);
};

}  // namespace

BENCHMARK_TEMPLATE(project, float16, Quant{.bits = 8})->Apply(tokens);
BENCHMARK_TEMPLATE(project, float16, Quant{.bits = 4})->Apply(tokens);
BENCHMARK_TEMPLATE(project_many, float16, Quant{.bits = 8})->Apply(many_tokens);
BENCHMARK_TEMPLATE(project_many, float16, Quant{.bits = 4})->Apply(many_tokens);
BENCHMARK(choose_token)->Apply(choices);

int main(int argc, char** argv) { return bench::run(argc, argv); }
