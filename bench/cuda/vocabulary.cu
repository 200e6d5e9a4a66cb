// What a vocabulary of 150,528 costs: embedding and its gradient, cross entropy and its gradient, beside a copy of as many bytes.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <set>
#include <vector>

#include "golem/cuda/embedding.cuh"
#include "golem/cuda/loss.cuh"
#include "measure.cuh"
#include "report.hpp"

namespace {

using namespace golem;
using bench::shapes, bench::Workbench;

constexpr std::int64_t n = shapes.tokens, c = shapes.hidden, v = shapes.vocab;

template <class T>
void embed(benchmark::State& state) {
  bench::on_device(state, [&](Workbench& b) {
    const auto table = b.numbers<T>(v, c);
    b.measure_bytes(state, [table](Workbench& w) {
      const auto x = w.write(w.numbers<T>(n, c));
      w.moves(x.size() * std::int64_t{sizeof(T)});  // the rows of the table that are read
      const auto tokens = w.read(w.indices(n, v));
      return [=, &w] { cuda::embed(w.device, x, table, tokens, 0); };
    });
  });
}

/// Random tokens of the whole vocabulary, hardly any of them twice: each has its row of the fp32 gradient to read and write.
template <class T>
void embed_backward(benchmark::State& state) {
  bench::on_device(state, [&](Workbench& b) {
    const auto d_table = b.numbers<float>(v, c);
    b.measure_bytes(state, [d_table](Workbench& w) {
      const std::vector<std::int32_t> drawn = w.drawn(n, v);
      const auto distinct = static_cast<std::int64_t>(std::set<std::int32_t>(drawn.begin(), drawn.end()).size());
      const auto dx = w.read(w.numbers<T>(n, c));
      const auto tokens = w.read(w.values(drawn));
      w.moves(2 * distinct * c * std::int64_t{sizeof(float)});
      return [=, &w] { cuda::embed_backward(w.device, d_table, dx, tokens, 0, 1.0); };
    });
  });
}

/// Argument: rows at once. Logits are fp32, whatever the model computes in.
void logit_statistics(benchmark::State& state) {
  const std::int64_t scored = state.range(0);
  bench::on_device(state, [&](Workbench& b) {
    b.measure_bytes(state, [scored](Workbench& w) {
      const auto max = w.write(w.numbers<float>(scored)), sum = w.write(w.numbers<float>(scored)), picked = w.write(w.numbers<float>(scored));
      const auto logits = w.read(w.numbers_in<float>(-8, 8, scored, v));
      const auto targets = w.read(w.indices(scored, v));
      return [=, &w] { cuda::logit_statistics(w.device, max, sum, picked, logits, targets, 0); };
    });
  });
}

template <class T>
void logit_gradient(benchmark::State& state) {
  const std::int64_t scored = state.range(0);
  bench::on_device(state, [&](Workbench& b) {
    b.measure_bytes(state, [scored](Workbench& w) {
      const auto d = w.write(w.numbers<T>(scored, v));
      const auto logits = w.read(w.numbers_in<float>(-8, 8, scored, v));
      const auto max = w.read(w.numbers_in<float>(8, 9, scored)), sum = w.read(w.numbers_in<float>(1, 2, scored)), weights = w.read(w.numbers<float>(scored));
      const auto targets = w.read(w.indices(scored, v));
      return [=, &w] { cuda::logit_gradient(w.device, d, logits, targets, max, sum, weights, 0); };
    });
  });
}

constexpr auto chunks = [](auto* b) {
  b->ArgNames({"rows"});
  for (const std::int64_t rows : shapes.scored) b->Args({rows});
  bench::timed(b);
};

}  // namespace

BENCHMARK_TEMPLATE(embed, bfloat16)->Apply(bench::timed);
BENCHMARK_TEMPLATE(embed_backward, bfloat16)->Apply(bench::timed);
BENCHMARK(logit_statistics)->Apply(chunks);
BENCHMARK_TEMPLATE(logit_gradient, bfloat16)->Apply(chunks);

int main(int argc, char** argv) { return bench::run(argc, argv); }
