// Rotation, GeGLU, dropout, AdamW and what goes with it, at GLM-130B's shapes, beside a copy of as many bytes.
// SPDX-License-Identifier: Apache-2.0
#include "golem/cuda/dropout.cuh"
#include "golem/cuda/feed_forward.cuh"
#include "golem/cuda/optimizer.cuh"
#include "golem/cuda/rotate.cuh"
#include "measure.cuh"
#include "report.hpp"

namespace {

using namespace golem;
using bench::shapes, bench::Workbench;

constexpr std::int64_t n = shapes.tokens, c = shapes.hidden, heads = shapes.heads, dim = c / heads, f = shapes.ffn;

template <class T>
void rotate(benchmark::State& state) {
  bench::on_device(state, [&](Workbench& b) {
    b.measure_bytes(state, [](Workbench& w) {
      const auto qkv = w.numbers<T>(n, heads, std::int64_t{3}, dim);
      w.moves(2 * n * heads * 2 * dim * std::int64_t{sizeof(T)});  // q and k, not v
      const auto cos = w.read(w.numbers<float>(n, dim / 2)), sin = w.read(w.numbers<float>(n, dim / 2));
      const auto positions = w.read(w.indices(n, n));
      return [=, &w] { cuda::rotate(w.device, qkv, cos, sin, positions); };
    });
  });
}

template <class T>
void activate(benchmark::State& state) {
  bench::on_device(state, [&](Workbench& b) {
    b.measure_bytes(state, [](Workbench& w) {
      const auto y = w.write(w.numbers<T>(n, f)), u = w.read(w.numbers<T>(n, 2 * f));
      return [=, &w] { cuda::activate(w.device, y, u, Ffn::geglu); };
    });
  });
}

template <class T>
void activate_backward(benchmark::State& state) {
  bench::on_device(state, [&](Workbench& b) {
    b.measure_bytes(state, [](Workbench& w) {
      const auto du = w.write(w.numbers<T>(n, 2 * f)), u = w.read(w.numbers<T>(n, 2 * f)), dy = w.read(w.numbers<T>(n, f));
      return [=, &w] { cuda::activate_backward(w.device, du, dy, u, Ffn::geglu); };
    });
  });
}

template <class T>
void drop(benchmark::State& state) {
  bench::on_device(state, [&](Workbench& b) {
    b.measure_bytes(state, [](Workbench& w) {
      const auto y = w.write(w.numbers<T>(n, c)), x = w.read(w.numbers<T>(n, c));
      return [=, &w] { cuda::drop(w.device, y, x, 0.1, Random{3, 4}, 0); };
    });
  });
}

/// Master weights and moments in fp32, weights in T, gradients in G: 30 bytes of an element where T has 16 bits and G 32.
template <class T, class G>
void adamw(benchmark::State& state) {
  bench::on_device(state, [&](Workbench& b) {
    b.measure_bytes(state, [](Workbench& w) {
      constexpr std::int64_t count = shapes.elements;
      const AdamwTensors<float, T, G> tensors{.master = w.read(w.write(w.numbers<float>(count))),
                                              .moment1 = w.read(w.write(w.numbers<float>(count))),
                                              .moment2 = w.read(w.write(w.numbers_in<float>(0, 1, count))),
                                              .compute = w.write(w.numbers<T>(count)),
                                              .gradient = w.read(w.numbers<G>(count))};
      const AdamwStep step{.learning_rate = 1e-4, .decay = 0.1, .correction1 = 0.1, .correction2 = 0.05};
      return [=, &w] { cuda::adamw(w.device, tensors, step); };
    });
  });
}

/// Each call waits for its result on the host.
template <class T>
void sum_of_squares(benchmark::State& state) {
  bench::on_device(state, [&](Workbench& b) {
    b.measure_bytes(state, [](Workbench& w) {
      const View<const T, 1> values = w.read(w.numbers<T>(shapes.elements));
      return [=, &w] { benchmark::DoNotOptimize(cuda::sum_of_squares(w.device, values)); };
    });
  });
}

template <class To, class From>
void convert(benchmark::State& state) {
  bench::on_device(state, [&](Workbench& b) {
    b.measure_bytes(state, [](Workbench& w) {
      const auto to = w.write(w.numbers<To>(shapes.elements));
      const auto from = w.read(w.numbers<From>(shapes.elements));
      return [=, &w] { cuda::convert(w.device, to, from); };
    });
  });
}

template <class To, class From>
void add(benchmark::State& state) {
  bench::on_device(state, [&](Workbench& b) {
    b.measure_bytes(state, [](Workbench& w) {
      const auto to = w.read(w.write(w.numbers<To>(shapes.elements)));
      const auto more = w.read(w.numbers<From>(shapes.elements));
      return [=, &w] { cuda::add(w.device, to, more); };
    });
  });
}

}  // namespace

BENCHMARK_TEMPLATE(rotate, bfloat16)->Apply(bench::timed);
BENCHMARK_TEMPLATE(rotate, float16)->Apply(bench::timed);
BENCHMARK_TEMPLATE(activate, bfloat16)->Apply(bench::timed);
BENCHMARK_TEMPLATE(activate, float16)->Apply(bench::timed);
BENCHMARK_TEMPLATE(activate_backward, bfloat16)->Apply(bench::timed);
BENCHMARK_TEMPLATE(activate_backward, float16)->Apply(bench::timed);
BENCHMARK_TEMPLATE(drop, bfloat16)->Apply(bench::timed);
BENCHMARK_TEMPLATE(drop, float16)->Apply(bench::timed);
BENCHMARK_TEMPLATE(adamw, bfloat16, float)->Apply(bench::timed);
BENCHMARK_TEMPLATE(adamw, float16, float)->Apply(bench::timed);
BENCHMARK_TEMPLATE(sum_of_squares, float)->Apply(bench::timed);
BENCHMARK_TEMPLATE(convert, bfloat16, float)->Apply(bench::timed);
BENCHMARK_TEMPLATE(add, float, bfloat16)->Apply(bench::timed);

int main(int argc, char** argv) { return bench::run(argc, argv); }
