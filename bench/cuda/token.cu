// What a new token costs beside attention: the widest quantised product of GLM-130B's attention, and the choice among its vocabulary, beside a copy of as many bytes.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "golem/config/quantized_tensor.hpp"
#include "golem/cuda/quantized_gemm.cuh"
#include "golem/cuda/sampling.cuh"
#include "measure.cuh"
#include "report.hpp"

namespace {

using namespace golem;
using bench::shapes, bench::Workbench;

/// Argument: new tokens. Weights are bits of random numbers, whatever integers they make.
template <class T, Quant Q>
void project(benchmark::State& state) {
  const std::int64_t n = state.range(0), inputs = shapes.hidden, outputs = 3 * shapes.hidden;
  bench::on_device(state, [&](Workbench& b) {
    b.measure_bytes(state, [=](Workbench& w) {
      const auto x = w.read(w.numbers<T>(n, inputs));
      const auto bias = w.read(w.numbers<T>(outputs));
      const auto y = w.write(w.numbers<T>(n, outputs));
      const auto bytes = w.read(w.numbers<bfloat16>(outputs * Q.row_bytes(inputs) / 2));
      const auto scales = w.read(w.numbers<float16>(outputs, Q.groups(inputs)));
      const QuantizedView<Q, const std::uint8_t> weights(outputs, inputs, reinterpret_cast<const std::uint8_t*>(bytes.data), scales.data);
      return [=, &w] { cuda::project(w.device, y, x, weights, bias); };
    });
  });
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
constexpr auto choices = [](auto* b) {
  b->ArgNames({"top_k", "top_p_tenths"});
  b->Args({1, 0})->Args({0, 0})->Args({40, 9});
  bench::timed(b);
};

}  // namespace

BENCHMARK_TEMPLATE(project, float16, Quant{.bits = 8})->Apply(tokens);
BENCHMARK_TEMPLATE(project, float16, Quant{.bits = 4})->Apply(tokens);
BENCHMARK(choose_token)->Apply(choices);

int main(int argc, char** argv) { return bench::run(argc, argv); }
