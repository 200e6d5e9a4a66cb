// LayerNorm with the DeepNorm residual, and the residual alone, at GLM-130B's width, beside a copy of as many bytes.
// SPDX-License-Identifier: Apache-2.0
#include "golem/cuda/norm.cuh"

#include "measure.cuh"
#include "report.hpp"

namespace {

using namespace golem;
using bench::shapes, bench::Workbench;

constexpr std::int64_t n = shapes.tokens, c = shapes.hidden;
constexpr double eps = 1e-5, alpha = 11.832159566199232;  // spec 1.1

template <class T>
void normalize(benchmark::State& state) {
  bench::on_device(state, [&](Workbench& b) {
    b.measure_bytes(state, [](Workbench& w) {
      const auto y = w.write(w.numbers<T>(n, c)), x = w.read(w.numbers<T>(n, c));
      const auto gamma = w.read(w.numbers<T>(c)), beta = w.read(w.numbers<T>(c));
      const auto mean = w.write(w.numbers<float>(n)), rstd = w.write(w.numbers<float>(n));
      return [=, &w] { cuda::normalize(w.device, y, x, gamma, beta, eps, mean, rstd); };
    });
  });
}

template <class T>
void normalize_sum(benchmark::State& state) {
  bench::on_device(state, [&](Workbench& b) {
    b.measure_bytes(state, [](Workbench& w) {
      const auto y = w.write(w.numbers<T>(n, c)), sum = w.write(w.numbers<T>(n, c)), a = w.read(w.numbers<T>(n, c)), branch = w.read(w.numbers<T>(n, c));
      const auto gamma = w.read(w.numbers<T>(c)), beta = w.read(w.numbers<T>(c));
      const auto mean = w.write(w.numbers<float>(n)), rstd = w.write(w.numbers<float>(n));
      return [=, &w] { cuda::normalize_sum(w.device, y, sum, a, branch, alpha, gamma, beta, eps, mean, rstd); };
    });
  });
}

/// Argument: tokens.
template <class T>
void normalize_backward(benchmark::State& state) {
  const std::int64_t n = state.range(0);
  bench::on_device(state, [&](Workbench& b) {
    b.measure_bytes(state, [n](Workbench& w) {
      const auto dx = w.write(w.numbers<T>(n, c)), dy = w.read(w.numbers<T>(n, c)), x = w.read(w.numbers<T>(n, c)), inside = w.read(w.numbers<T>(n, c));
      const auto d_gamma = w.read(w.write(w.numbers<float>(c))), d_beta = w.read(w.write(w.numbers<float>(c)));
      const auto gamma = w.read(w.numbers<T>(c));
      const auto mean = w.read(w.numbers<float>(n)), rstd = w.read(w.numbers_in<float>(0.5f, 1.5f, n));
      return [=, &w] { cuda::normalize_backward(w.device, dx, d_gamma, d_beta, dy, x, gamma, mean, rstd, ResidualGradient<T>{.inside = inside, .outside = {}, .alpha = alpha}); };
    });
  });
}

template <class T>
void add_scaled(benchmark::State& state) {
  bench::on_device(state, [&](Workbench& b) {
    b.measure_bytes(state, [](Workbench& w) {
      const auto y = w.write(w.numbers<T>(n, c)), a = w.read(w.numbers<T>(n, c)), branch = w.read(w.numbers<T>(n, c));
      return [=, &w] { cuda::add_scaled(w.device, y, a, branch, alpha); };
    });
  });
}

constexpr auto tokens = [](auto* b) {
  b->ArgNames({"N"})->Args({n})->Args({4 * n});
  bench::timed(b);
};

}  // namespace

BENCHMARK_TEMPLATE(normalize, bfloat16)->Apply(bench::timed);
BENCHMARK_TEMPLATE(normalize, float16)->Apply(bench::timed);
BENCHMARK_TEMPLATE(normalize_sum, bfloat16)->Apply(bench::timed);
BENCHMARK_TEMPLATE(normalize_sum, float16)->Apply(bench::timed);
BENCHMARK_TEMPLATE(normalize_backward, bfloat16)->Apply(tokens);
BENCHMARK_TEMPLATE(normalize_backward, float16)->Apply(tokens);
BENCHMARK_TEMPLATE(add_scaled, bfloat16)->Apply(bench::timed);
BENCHMARK_TEMPLATE(add_scaled, float16)->Apply(bench::timed);

int main(int argc, char** argv) { return bench::run(argc, argv); }
