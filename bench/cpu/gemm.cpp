// Dense products of a linear layer, next to what this machine's FMA units and memory can do at the same moment.
// SPDX-License-Identifier: Apache-2.0
#include "golem/cpu/gemm.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "golem/core/buffer.hpp"
#include "golem/core/random.hpp"

namespace {

using golem::accumulate_t, golem::bfloat16, golem::Buffer, golem::float16, golem::Random, golem::View;
using golem::cpu::Device, golem::cpu::Vector;

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// Twelve independent chains of multiply-add on floats: what no GEMM exceeds.
struct FmaLoop {
  static constexpr int chains = 12, steps = 1000000;
  float* out;

  template <int bytes>
  [[gnu::always_inline]] void at() const {
    using V = Vector<float, bytes>;
    V sum[chains], factor = V{} + out[0], term = V{} + out[1];
#pragma GCC unroll 16
    for (int i = 0; i < chains; ++i) sum[i] = V{} + static_cast<float>(i);
    for (int step = 0; step < steps; ++step)
#pragma GCC unroll 16
      for (int i = 0; i < chains; ++i) sum[i] = sum[i] * factor + term;
#pragma GCC unroll 16
    for (int i = 1; i < chains; ++i) sum[0] += sum[i];
    for (int l = 0; l < bytes / 4; ++l) out[2 + l] = sum[0][l];
    flops = 2.0 * chains * steps * (bytes / 4);
  }
  inline static double flops = 0;  // of one loop
};

double fma_rate(Device& device) {
  std::vector<float> out(static_cast<std::size_t>(device.threads()) * 64, 0.5f);
  const double start = seconds();
  device.parallel(device.threads(), [&](std::int64_t t) { run_on(device.isa(), FmaLoop{out.data() + t * 64}); });
  return FmaLoop::flops * device.threads() / (seconds() - start);
}

/// Sums a piece of memory in vectors: a pure read.
struct ReadLoop {
  const char* data;
  std::int64_t bytes_to_read;
  std::uint64_t* out;

  template <int bytes>
  [[gnu::always_inline]] void at() const {
    using V = Vector<std::uint64_t, bytes>;
    V sum[8] = {};
    for (std::int64_t i = 0; i + 8 * bytes <= bytes_to_read; i += 8 * bytes)
#pragma GCC unroll 8
      for (int j = 0; j < 8; ++j) {
        V v;
        std::memcpy(&v, data + i + j * bytes, bytes);
        sum[j] += v;
      }
#pragma GCC unroll 8
    for (int j = 1; j < 8; ++j) sum[0] += sum[j];
    *out = sum[0][0];
  }
};

double read_rate(Device& device, const void* data, std::int64_t bytes) {
  std::vector<std::uint64_t> out(static_cast<std::size_t>(device.threads()) * 8);
  const std::int64_t piece = bytes / device.threads() / 64 * 64;
  const double start = seconds();
  device.parallel(device.threads(), [&](std::int64_t t) {
    run_on(device.isa(), ReadLoop{static_cast<const char*>(data) + t * piece, piece, out.data() + t * 8});
  });
  return static_cast<double>(bytes) / (seconds() - start);
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

template <class T>
Buffer<T, Device> draw(Device& device, std::int64_t count, std::uint64_t stream) {
  Buffer<T, Device> values(device, count, "benchmark");
  for (std::int64_t i = 0; i < count; ++i) values.data()[i] = T(2 * Random{1, stream}.uniform(static_cast<std::uint64_t>(i)) - 1);
  return values;
}

enum class Op { project, backward_input, backward_weight };

/// Runs `work`, in turn with a measurement of the limit, and reports medians: the work's rate and its share of the limit.
template <class Work, class Limit>
void compare(benchmark::State& state, double amount, const Work& work, const Limit& limit) {
  std::vector<double> rates, limits, shares;
  work();
  for (auto _ : state) {
    const double before = limit(), start = seconds();
    work();
    const double time = seconds() - start;
    state.SetIterationTime(time);
    rates.push_back(amount / time), limits.push_back(before), shares.push_back(amount / time / before);
  }
  state.counters["G/s"] = median(rates) / 1e9;
  state.counters["limit_G/s"] = median(limits) / 1e9;
  state.counters["share"] = median(shares);
}

/// Arguments: N, I, O, threads. G/s: billions of floating-point operations; the limit is float FMA.
template <class T, Op op>
void gemm(benchmark::State& state) {
  using A = accumulate_t<T>;
  const std::int64_t n = state.range(0), i = state.range(1), o = state.range(2);
  Device device({.threads = static_cast<int>(state.range(3))});
  const auto x = draw<T>(device, n * i, 1), w = draw<T>(device, o * i, 2), y = draw<T>(device, n * o, 3);
  const Buffer<A, Device> dw(device, o * i, "benchmark"), dbias(device, o, "benchmark");
  const View<T, 2> inputs = x.view_at(0, n, i), weights = w.view_at(0, o, i), outputs = y.view_at(0, n, o);
  const auto work = [&] {
    if constexpr (op == Op::project)
      project(device, outputs, inputs, weights, {});
    else if constexpr (op == Op::backward_input)
      project_backward_input(device, inputs, outputs, weights);
    else
      project_backward_weight(device, dw.view_at(0, o, i), dbias.view(), outputs, inputs);
  };
  compare(state, 2.0 * static_cast<double>(n) * static_cast<double>(i) * static_cast<double>(o), work, [&] { return fma_rate(device); });
}

/// Arguments: N, I, O, threads. G/s: billions of bytes of weights; the limit is a pure read of the same weights.
template <class T>
void decode(benchmark::State& state) {
  const std::int64_t n = state.range(0), i = state.range(1), o = state.range(2);
  Device device({.threads = static_cast<int>(state.range(3))});
  const auto x = draw<T>(device, n * i, 1), w = draw<T>(device, o * i, 2);
  const Buffer<T, Device> y(device, n * o, "benchmark");
  compare(
      state, static_cast<double>(w.bytes()), [&] { project(device, y.view_at(0, n, o), x.view_at(0, n, i), w.view_at(0, o, i), {}); },
      [&] { return read_rate(device, w.data(), static_cast<std::int64_t>(w.bytes())); });
}

void shapes(benchmark::internal::Benchmark* b) {
  b->UseManualTime()->Unit(benchmark::kMillisecond)->ArgNames({"N", "I", "O", "threads"});
  for (const int threads : {1, 2})
    b->Args({512, 768, 3072, threads})->Args({512, 3072, 768, threads})->Args({1024, 1024, 1024, threads})->Args({2048, 768, 3072, threads});
}

void rows(benchmark::internal::Benchmark* b) {
  b->UseManualTime()->Unit(benchmark::kMillisecond)->ArgNames({"N", "I", "O", "threads"});
  for (const int threads : {1, 2})
    for (const int n : {1, 4, 16}) b->Args({n, 4096, 16384, threads});
}

BENCHMARK_TEMPLATE(gemm, float, Op::project)->Apply(shapes);
BENCHMARK_TEMPLATE(gemm, float, Op::backward_input)->Apply(shapes);
BENCHMARK_TEMPLATE(gemm, float, Op::backward_weight)->Apply(shapes);
BENCHMARK_TEMPLATE(gemm, bfloat16, Op::project)->Apply(shapes);
BENCHMARK_TEMPLATE(gemm, bfloat16, Op::backward_input)->Apply(shapes);
BENCHMARK_TEMPLATE(gemm, bfloat16, Op::backward_weight)->Apply(shapes);
BENCHMARK_TEMPLATE(gemm, float16, Op::project)->Apply(shapes);
BENCHMARK_TEMPLATE(decode, float)->Apply(rows);
BENCHMARK_TEMPLATE(decode, bfloat16)->Apply(rows);
BENCHMARK_TEMPLATE(decode, float16)->Apply(rows);

}  // namespace

BENCHMARK_MAIN();
