// The pointwise ops, next to a copy of as many bytes in the same moment: in the second-level cache, and from memory.
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "golem/core/buffer.hpp"
#include "golem/core/random.hpp"
#include "golem/cpu/dropout.hpp"
#include "golem/cpu/embedding.hpp"
#include "golem/cpu/feed_forward.hpp"
#include "golem/cpu/loss.hpp"
#include "golem/cpu/norm.hpp"
#include "golem/cpu/optimizer.hpp"
#include "golem/cpu/rotate.hpp"
#include "limits.hpp"

namespace {

using namespace golem;

constexpr std::int64_t hidden = 1024, heads = 16, dim = 64;

/// Tensors of T with values near 1, and the copy that an op is measured beside.
template <class T>
struct Workbench {
  using A = accumulate_t<T>;
  cpu::Device device;
  std::vector<Buffer<T, cpu::Device>> tensors;
  std::vector<Buffer<float, cpu::Device>> wide;

  explicit Workbench(int threads) : device({.threads = threads}) {}

  T* numbers(std::int64_t count) { return filled(tensors.emplace_back(device, count, "numbers")); }
  A* wide_numbers(std::int64_t count) { return filled(wide.emplace_back(device, count, "numbers")); }
  View<T, 2> matrix(std::int64_t rows) { return {numbers(rows * hidden), rows, hidden}; }
  View<T, 1> vector(std::int64_t count) { return {numbers(count), count}; }
  View<A, 1> wide_vector(std::int64_t count) { return {wide_numbers(count), count}; }

  template <class Element>
  Element* filled(Buffer<Element, cpu::Device>& buffer) {
    for (std::int64_t i = 0; i < buffer.size(); ++i)
      buffer.data()[i] = Element(static_cast<float>(Random{1, 2}.uniform(static_cast<std::uint64_t>(i) % 4096) * 2 - 1));
    return buffer.data();
  }

  /// Times `op`, which moves `bytes` between the processor and its tensors, in turn with a copy that moves as many.
  template <class Op>
  void measure(benchmark::State& state, std::int64_t bytes, std::int64_t elements, const Op& op) {
    const std::int64_t count = ceil_div(bytes, 8);
    Buffer<float, cpu::Device> from(device, count, "copy"), to(device, count, "copy");
    std::vector<double> seconds, copy_seconds;
    const auto copy = [&] { cpu::convert(device, View<float, 1>{to.data(), count}, View<const float, 1>{from.data(), count}); };
    for (auto _ : state) {
      copy();
      const double start = limits::now();
      copy();
      const double middle = limits::now();
      op();
      const double warm = limits::now();
      op();
      const double end = limits::now();
      copy_seconds.push_back(middle - start);
      seconds.push_back(end - warm);
      state.SetIterationTime(seconds.back());
    }
    const double median = limits::median(seconds);
    state.counters["GB/s"] = static_cast<double>(bytes) / median * 1e-9;
    state.counters["ns/element"] = median / static_cast<double>(elements) * 1e9;
    state.counters["of_copy"] = limits::median(copy_seconds) / median;
  }
};

template <class T>
void normalize(benchmark::State& state) {
  const std::int64_t n = state.range(0);
  Workbench<T> w(static_cast<int>(state.range(1)));
  const View<T, 2> y = w.matrix(n), x = w.matrix(n);
  const View<T, 1> gamma = w.vector(hidden), beta = w.vector(hidden);
  const View<accumulate_t<T>, 1> mean = w.wide_vector(n), rstd = w.wide_vector(n);
  w.measure(state, 2 * n * hidden * std::int64_t{sizeof(T)}, n * hidden, [&] { cpu::normalize(w.device, y, x, gamma, beta, 1e-5, mean, rstd); });
}

template <class T>
void normalize_sum(benchmark::State& state) {
  const std::int64_t n = state.range(0);
  Workbench<T> w(static_cast<int>(state.range(1)));
  const View<T, 2> y = w.matrix(n), sum = w.matrix(n), a = w.matrix(n),
      b = w.matrix(n);
  const View<T, 1> gamma = w.vector(hidden), beta = w.vector(hidden);
  const View<accumulate_t<T>, 1> mean = w.wide_vector(n), rstd = w.wide_vector(n);
  w.measure(state, 4 * n * hidden * std::int64_t{sizeof(T)}, n * hidden,
            [&] { cpu::normalize_sum(w.device, y, sum, a, b, 11.8, gamma, beta, 1e-5, mean, rstd); });
}

template <class T>
void normalize_backward(benchmark::State& state) {
  const std::int64_t n = state.range(0);
  Workbench<T> w(static_cast<int>(state.range(1)));
  const View<T, 2> dx = w.matrix(n), dy = w.matrix(n), x = w.matrix(n),
      inside = w.matrix(n);
  const View<T, 1> gamma = w.vector(hidden);
  const View<accumulate_t<T>, 1> mean = w.wide_vector(n), rstd = w.wide_vector(n), d_gamma = w.wide_vector(hidden),
      d_beta = w.wide_vector(hidden);
  w.measure(state, 4 * n * hidden * std::int64_t{sizeof(T)}, n * hidden, [&] {
    cpu::normalize_backward(w.device, dx, d_gamma, d_beta, dy, x, gamma, mean, rstd,
                            ResidualGradient<T>{.inside = inside, .outside = {}, .alpha = 11.8});
  });
}

template <class T>
void add_scaled(benchmark::State& state) {
  const std::int64_t n = state.range(0);
  Workbench<T> w(static_cast<int>(state.range(1)));
  const View<T, 2> y = w.matrix(n), a = w.matrix(n), b = w.matrix(n);
  w.measure(state, 3 * n * hidden * std::int64_t{sizeof(T)}, n * hidden, [&] { cpu::add_scaled(w.device, y, a, b, 11.8); });
}

template <class T>
void rotate(benchmark::State& state) {
  const std::int64_t n = state.range(0);
  Workbench<T> w(static_cast<int>(state.range(1)));
  const View<T, 4> qkv{w.numbers(n * 3 * hidden), n, heads, 3, dim};
  const View<accumulate_t<T>, 2> cos{w.wide_numbers(512 * dim / 2), 512, dim / 2}, sin{w.wide_numbers(512 * dim / 2), 512, dim / 2};
  std::vector<std::int32_t> positions;
  for (std::int64_t i = 0; i < n; ++i) positions.push_back(static_cast<std::int32_t>(i % 512));
  w.measure(state, 4 * n * hidden * std::int64_t{sizeof(T)}, 2 * n * hidden, [&] {
    cpu::rotate(w.device, qkv, cos, sin, View<const std::int32_t, 1>{positions.data(), n});
  });
}

template <class T>
void activate(benchmark::State& state) {
  const std::int64_t n = state.range(0);
  Workbench<T> w(static_cast<int>(state.range(1)));
  const View<T, 2> y = w.matrix(n), u{w.numbers(2 * n * hidden), n, 2 * hidden};
  w.measure(state, 3 * n * hidden * std::int64_t{sizeof(T)}, n * hidden, [&] { cpu::activate(w.device, y, u, Ffn::geglu); });
}

template <class T>
void activate_backward(benchmark::State& state) {
  const std::int64_t n = state.range(0);
  Workbench<T> w(static_cast<int>(state.range(1)));
  const View<T, 2> dy = w.matrix(n), u{w.numbers(2 * n * hidden), n, 2 * hidden}, du{w.numbers(2 * n * hidden), n, 2 * hidden};
  w.measure(state, 5 * n * hidden * std::int64_t{sizeof(T)}, n * hidden, [&] { cpu::activate_backward(w.device, du, dy, u, Ffn::geglu); });
}

template <class T>
void embed(benchmark::State& state) {
  const std::int64_t n = state.range(0), rows = 4 * n;
  Workbench<T> w(static_cast<int>(state.range(1)));
  const View<T, 2> x = w.matrix(n), table{w.numbers(rows * hidden), rows, hidden};
  std::vector<std::int32_t> tokens;
  for (std::int64_t i = 0; i < n; ++i) tokens.push_back(static_cast<std::int32_t>(i * 2654435761 % rows));
  w.measure(state, 2 * n * hidden * std::int64_t{sizeof(T)}, n * hidden, [&] {
    cpu::embed(w.device, x, table, View<const std::int32_t, 1>{tokens.data(), n}, 0);
  });
}

template <class T>
void embed_backward(benchmark::State& state) {
  const std::int64_t n = state.range(0), rows = 4 * n;
  Workbench<T> w(static_cast<int>(state.range(1)));
  const View<T, 2> dx = w.matrix(n);
  const View<accumulate_t<T>, 2> d_table{w.wide_numbers(rows * hidden), rows, hidden};
  std::vector<std::int32_t> tokens;
  for (std::int64_t i = 0; i < n; ++i) tokens.push_back(static_cast<std::int32_t>(i * 2654435761 % rows));
  w.measure(state, n * hidden * std::int64_t{sizeof(T) + 2 * sizeof(accumulate_t<T>)}, n * hidden, [&] {
    cpu::embed_backward(w.device, d_table, dx, View<const std::int32_t, 1>{tokens.data(), n}, 0, 0.1);
  });
}

/// As many logits as the other ops have elements, 32768 a row.
struct Logits {
  std::int64_t n, vocab;
  View<float, 2> all;
  View<float, 1> max, sum, picked;
  std::vector<std::int32_t> target;
  Logits(Workbench<float>& w, std::int64_t size)
      : n(size / 32),
        vocab(hidden * 32),
        all{w.numbers(n * vocab), n, vocab},
        max(w.wide_vector(n)),
        sum(w.wide_vector(n)),
        picked(w.wide_vector(n)) {
    for (std::int64_t i = 0; i < n; ++i) target.push_back(static_cast<std::int32_t>(i)), max(i) = 1, sum(i) = 1000;
  }
  View<const std::int32_t, 1> targets() const { return {target.data(), n}; }
};

void logit_statistics(benchmark::State& state) {
  Workbench<float> w(static_cast<int>(state.range(1)));
  const Logits l(w, state.range(0));
  w.measure(state, l.all.size() * 4, l.all.size(), [&] { cpu::logit_statistics(w.device, l.max, l.sum, l.picked, l.all, l.targets(), 0); });
}

void logit_gradient(benchmark::State& state) {
  Workbench<float> w(static_cast<int>(state.range(1)));
  const Logits l(w, state.range(0));
  w.measure(state, l.all.size() * 8, l.all.size(), [&] { cpu::logit_gradient(w.device, l.all, l.all, l.targets(), l.max, l.sum, l.picked, 0); });
}

template <class T>
void drop(benchmark::State& state) {
  const std::int64_t n = state.range(0);
  Workbench<T> w(static_cast<int>(state.range(1)));
  const View<T, 2> y = w.matrix(n), x = w.matrix(n);
  w.measure(state, 2 * n * hidden * std::int64_t{sizeof(T)}, n * hidden, [&] { cpu::drop(w.device, y, x, 0.1, Random{1, 2}, 0); });
}

template <class T>
void adamw(benchmark::State& state) {
  const std::int64_t n = state.range(0) * hidden;
  Workbench<T> w(static_cast<int>(state.range(1)));
  constexpr bool copy = !std::is_same_v<T, float>;
  AdamwTensors<float, T> tensors{w.wide_vector(n), w.wide_vector(n), w.wide_vector(n), {}, View<const float, 1>(w.wide_vector(n))};
  for (std::int64_t i = 0; i < n; ++i) tensors.moment2(i) *= tensors.moment2(i);
  if (copy) tensors.compute = {w.numbers(n), n};
  const AdamwStep step{.learning_rate = 1e-6, .decay = 0.1, .correction1 = 0.5, .correction2 = 0.5};
  w.measure(state, n * (copy ? 30 : 28), n, [&] { cpu::adamw(w.device, tensors, step); });
}

void sum_of_squares(benchmark::State& state) {
  const std::int64_t n = state.range(0) * hidden;
  Workbench<float> w(static_cast<int>(state.range(1)));
  const View<const float, 1> values{w.numbers(n), n};
  w.measure(state, n * 4, n, [&] { benchmark::DoNotOptimize(cpu::sum_of_squares(w.device, values)); });
}

template <class To, class From>
void convert(benchmark::State& state) {
  const std::int64_t n = state.range(0) * hidden;
  Workbench<To> to(static_cast<int>(state.range(1)));
  Workbench<From> from(1);
  const View<To, 1> y{to.numbers(n), n};
  const View<From, 1> x{from.numbers(n), n};
  to.measure(state, n * std::int64_t{sizeof(To) + sizeof(From)}, n, [&] { cpu::convert(to.device, y, x); });
}

/// 64 tokens of 1024 in the second-level cache, 16384 from memory; one thread, and two for the latter.
void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"tokens", "threads"})->Args({64, 1})->Args({16384, 1})->Args({16384, 2})->UseManualTime()->MinTime(0.1);
}

}  // namespace

BENCHMARK_TEMPLATE(normalize, float)->Apply(sizes);
BENCHMARK_TEMPLATE(normalize, bfloat16)->Apply(sizes);
BENCHMARK_TEMPLATE(normalize_sum, float)->Apply(sizes);
BENCHMARK_TEMPLATE(normalize_sum, bfloat16)->Apply(sizes);
BENCHMARK_TEMPLATE(normalize_backward, float)->Apply(sizes);
BENCHMARK_TEMPLATE(normalize_backward, bfloat16)->Apply(sizes);
BENCHMARK_TEMPLATE(add_scaled, float)->Apply(sizes);
BENCHMARK_TEMPLATE(add_scaled, bfloat16)->Apply(sizes);
BENCHMARK_TEMPLATE(add_scaled, float16)->Apply(sizes);
BENCHMARK_TEMPLATE(rotate, float)->Apply(sizes);
BENCHMARK_TEMPLATE(rotate, bfloat16)->Apply(sizes);
BENCHMARK_TEMPLATE(activate, float)->Apply(sizes);
BENCHMARK_TEMPLATE(activate, bfloat16)->Apply(sizes);
BENCHMARK_TEMPLATE(activate_backward, float)->Apply(sizes);
BENCHMARK_TEMPLATE(activate_backward, bfloat16)->Apply(sizes);
BENCHMARK_TEMPLATE(embed, float)->Apply(sizes);
BENCHMARK_TEMPLATE(embed_backward, float)->Apply(sizes);
BENCHMARK(logit_statistics)->Apply(sizes);
BENCHMARK(logit_gradient)->Apply(sizes);
BENCHMARK_TEMPLATE(drop, float)->Apply(sizes);
BENCHMARK_TEMPLATE(drop, bfloat16)->Apply(sizes);
BENCHMARK_TEMPLATE(adamw, float)->Apply(sizes);
BENCHMARK_TEMPLATE(adamw, bfloat16)->Apply(sizes);
BENCHMARK(sum_of_squares)->Apply(sizes);
BENCHMARK_TEMPLATE(convert, bfloat16, float)->Apply(sizes);
BENCHMARK_TEMPLATE(convert, float, bfloat16)->Apply(sizes);

BENCHMARK_MAIN();
