// The dense products of GLM-130B's four linears and of its head, by cuBLASLt, beside a large square product of the same run.
// SPDX-License-Identifier: Apache-2.0
#include "golem/cuda/gemm.cuh"

#include "measure.cuh"
#include "report.hpp"

namespace {

using namespace golem;
using bench::Workbench, golem::cuda::ProductChoice;

enum class Op { project, backward_input, backward_weight };

/// Arguments: N tokens through a linear of I inputs and O outputs. Weight gradients are added to in fp32.
template <class T, Op op, ProductChoice choice = ProductChoice::proposed>
void gemm(benchmark::State& state) {
  const std::int64_t n = state.range(0), inputs = state.range(1), outputs = state.range(2);
  const auto compare = [&](Workbench& b) {
    b.measure_flops(state, 2.0 * static_cast<double>(n) * static_cast<double>(inputs) * static_cast<double>(outputs), [=](Workbench& w) {
      const auto x = w.numbers<T>(n, inputs), y = w.numbers<T>(n, outputs);
      const auto weights = w.numbers<T>(op == Op::backward_weight ? std::int64_t{1} : outputs, inputs);
      const auto bias = w.numbers<T>(outputs);
      const auto d_weights = w.numbers<float>(op == Op::backward_weight ? outputs : std::int64_t{1}, inputs);
      const auto d_bias = w.numbers<float>(outputs);
      return [=, &w] {
        if constexpr (op == Op::project) cuda::project(w.device, y, x, weights, bias);
        else if constexpr (op == Op::backward_input) cuda::project_backward_input(w.device, x, y, weights);
        else cuda::project_backward_weight(w.device, d_weights, d_bias, y, x);
      };
    });
  };
  bench::on_device(state, compare, {.products = choice});
}

/// Logits in fp32 of rows that are scored.
template <class T>
void logits(benchmark::State& state) {
  const std::int64_t n = state.range(0), inputs = state.range(1), outputs = state.range(2);
  bench::on_device(state, [&](Workbench& b) {
    const auto embedding = b.numbers<T>(outputs, inputs);
    b.measure_flops(state, 2.0 * static_cast<double>(n) * static_cast<double>(inputs) * static_cast<double>(outputs), [=](Workbench& w) {
      const auto x = w.numbers<T>(n, inputs);
      const auto y = w.numbers<float>(n, outputs);
      return [=, &w] { cuda::project(w.device, y, x, embedding, View<T, 1>{}); };
    });
  });
}

constexpr auto linears = [](auto* b) {
  constexpr bench::Shapes s = bench::shapes;
  b->ArgNames({"N", "I", "O"});
  b->Args({s.tokens, s.hidden, 3 * s.hidden})->Args({s.tokens, s.hidden, s.hidden})->Args({s.tokens, s.hidden, 2 * s.ffn})->Args({s.tokens, s.ffn, s.hidden});
  bench::timed(b);
};
constexpr auto head = [](auto* b) {
  constexpr bench::Shapes s = bench::shapes;
  b->ArgNames({"N", "I", "O"});
  for (const std::int64_t rows : s.scored) b->Args({rows, s.hidden, s.vocab});
  bench::timed(b);
};

}  // namespace

BENCHMARK_TEMPLATE(gemm, bfloat16, Op::project)->Apply(linears);
BENCHMARK_TEMPLATE(gemm, bfloat16, Op::backward_input)->Apply(linears);
BENCHMARK_TEMPLATE(gemm, bfloat16, Op::backward_weight)->Apply(linears);
BENCHMARK_TEMPLATE(gemm, bfloat16, Op::project, ProductChoice::fastest)->Apply(linears);
BENCHMARK_TEMPLATE(gemm, bfloat16, Op::backward_input, ProductChoice::fastest)->Apply(linears);
BENCHMARK_TEMPLATE(gemm, bfloat16, Op::backward_weight, ProductChoice::fastest)->Apply(linears);
BENCHMARK_TEMPLATE(gemm, float16, Op::project)->Apply(linears);
BENCHMARK_TEMPLATE(logits, bfloat16)->Apply(head);

int main(int argc, char** argv) { return bench::run(argc, argv); }
