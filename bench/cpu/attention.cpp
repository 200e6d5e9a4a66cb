// Attention's speed as a share of the FMA peak, and of a pure read of the cache where it streams one, both measured in the same run.
// SPDX-License-Identifier: Apache-2.0
#include "golem/cpu/attention.hpp"

#include <benchmark/benchmark.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <vector>

using namespace golem;

namespace {

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// Twelve chains of multiply-adds: what the machine can do at most.
struct MultiplyAdds {
  template <int width>
  [[gnu::always_inline]] static inline void run(float* out, std::int64_t count) {
    using V = cpu::Lanes<float, width>;
    V sums[12], x = V{} + 0.999f, y = V{} + 0.001f;
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i) sums[i] = V{} + float(i);
    for (std::int64_t i = 0; i < count; ++i)
#pragma GCC unroll 12
      for (V& sum : sums) sum = sum * x + y;
#pragma GCC unroll 12
    for (V& sum : sums) x += sum;
    cpu::store(out, x);
  }
};

struct SumOf {
  template <int width>
  [[gnu::always_inline]] static inline void run(float* out, const float* from, std::int64_t count) {
    using V = cpu::Lanes<float, width>;
    constexpr int n = cpu::lane_count<V>;
    V sums[8]{};
    for (std::int64_t i = 0; i + 8 * n <= count; i += 8 * n)
#pragma GCC unroll 8
      for (int v = 0; v < 8; ++v) {
        V x;
        cpu::load(x, from + i + v * n);
        sums[v] += x;
      }
    for (int v = 1; v < 8; ++v) sums[0] += sums[v];
    cpu::store(out, sums[0]);
  }
};

/// Floating-point operations a second of all threads, now.
double fma_peak(cpu::Device& device) {
  constexpr std::int64_t count = 200000;
  const int lanes = device.isa() >= cpu::Isa::avx512 ? 16 : device.isa() >= cpu::Isa::avx2 ? 8 : 4;
  std::vector<float> out(static_cast<std::size_t>(device.threads()) * 16);
  const double start = seconds();
  device.parallel(device.threads(), [&](std::int64_t t) { cpu::run_on<MultiplyAdds>(device.isa(), out.data() + t * 16, count); });
  return 24.0 * static_cast<double>(count * lanes * device.threads()) / (seconds() - start);
}

/// Bytes a second of all threads, now, from `memory`.
double read_peak(cpu::Device& device, View<const float, 1> memory) {
  std::vector<float> out(static_cast<std::size_t>(device.threads()) * 16);
  const std::int64_t part = memory.size() / device.threads();
  const double start = seconds();
  device.parallel(device.threads(), [&](std::int64_t t) { cpu::run_on<SumOf>(device.isa(), out.data() + t * 16, memory.data + t * part, part); });
  return static_cast<double>(memory.size()) * 4 / (seconds() - start);
}

/// The work of one call against a peak that is measured between the calls.
class Share {
 public:
  template <class Work, class Peak>
  void measure(benchmark::State& state, double amount, const Work& work, const Peak& peak) {
    work();
    for (auto _ : state) {
      const double start = seconds();
      work();
      const double took = seconds() - start;
      state.SetIterationTime(took);
      work_seconds_ += took;
      peak_seconds_ += amount / peak();
    }
    state.counters["share_of_peak"] = peak_seconds_ / work_seconds_;
    state.counters["per_second"] = benchmark::Counter(amount, benchmark::Counter::kIsIterationInvariantRate);
  }

 private:
  double work_seconds_ = 0, peak_seconds_ = 0;
};

template <class T>
Buffer<T, cpu::Device> normals(cpu::Device& device, std::int64_t count) {
  Buffer<T, cpu::Device> buffer(device, count, "bench");
  for (std::int64_t i = 0; i < count; ++i)
    buffer.data()[i] = static_cast<T>(0.5f * static_cast<float>(Random{1, 2}.uniform(static_cast<std::uint64_t>(i)) * 4 - 2));
  return buffer;
}

enum class Pass { forward, backward };

/// One row of 16 heads: range(0) tokens of range(1) dims, the first range(2) of them the prefix, on range(3) threads.
template <class T, Pass pass>
void attention(benchmark::State& state) {
  using A = accumulate_t<T>;
  cpu::Device device({.threads = static_cast<int>(state.range(3))});
  const std::int64_t heads = 16, length = state.range(0), dims = state.range(1), prefix = state.range(2);
  const auto qkv = normals<T>(device, length * heads * 3 * dims), dout = normals<T>(device, length * heads * dims);
  Buffer<T, cpu::Device> out(device, dout.size(), "bench"), dqkv(device, qkv.size(), "bench");
  Buffer<A, cpu::Device> log_sum(device, heads * length, "bench");
  const Window window{0, static_cast<std::int32_t>(length), static_cast<std::int32_t>(prefix)};
  const std::int32_t first[]{0, 1};
  const WindowList windows{{&window, 1}, {first, 2}};
  const AttentionOptions options{.scale = static_cast<float>(1 / std::sqrt(dims))};
  const auto x = qkv.view_at(0, length, heads, 3, dims);
  const auto y = out.view_at(0, length, heads, dims);
  const auto l = log_sum.view_at(0, 1, heads, length);
  attend(device, y, l, x, 1, windows, options);
  const auto pairs = static_cast<double>(heads * (prefix * prefix + (length - prefix) * prefix + (length - prefix) * (length - prefix + 1) / 2));
  Share().measure(
      state, (pass == Pass::forward ? 4.0 : 10.0) * static_cast<double>(dims) * pairs,
      [&] {
        if constexpr (pass == Pass::forward)
          attend(device, y, l, x, 1, windows, options);
        else
          attend_backward(device, dqkv.view_at(0, length, heads, 3, dims), dout.view_at(0, length, heads, dims), y, l, x, 1, windows, options);
      },
      [&] { return fma_peak(device); });
}

void training_sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"tokens", "dims", "prefix", "threads"})->UseManualTime()->Unit(benchmark::kMillisecond);
  for (const int threads : {1, 2})
    for (const int dims : {64, 128})
      for (const int prefix : {0, 512}) b->Args({512, dims, prefix, threads});
  b->Args({2048, 128, 1024, 2});
}
BENCHMARK_TEMPLATE(attention, float, Pass::forward)->Apply(training_sizes);
BENCHMARK_TEMPLATE(attention, float, Pass::backward)->Apply(training_sizes);
BENCHMARK_TEMPLATE(attention, bfloat16, Pass::forward)->Apply(training_sizes);
BENCHMARK_TEMPLATE(attention, bfloat16, Pass::backward)->Apply(training_sizes);

/// One new token a sequence: range(0) sequences of 2048 cached tokens, 12 heads of 128 dims, on range(1) threads.
template <class T>
void decode(benchmark::State& state) {
  cpu::Device device({.threads = static_cast<int>(state.range(1))});
  const std::int64_t sequences = state.range(0), heads = 12, capacity = 2048, dims = 128;
  const auto keys = normals<T>(device, sequences * heads * capacity * dims), values = normals<T>(device, keys.size()),
             qkv = normals<T>(device, sequences * heads * 3 * dims);
  Buffer<T, cpu::Device> out(device, sequences * heads * dims, "bench");
  std::vector<CachedSequence> calls;
  for (std::int32_t s = 0; s < sequences; ++s) calls.push_back({.row = s, .count = 1, .first = capacity - 1, .slot = s});
  const View<const float, 1> all(reinterpret_cast<const float*>(keys.data()), keys.size() * static_cast<std::int64_t>(sizeof(T)) / 4);
  Share().measure(
      state, 2.0 * static_cast<double>(keys.bytes()),
      [&] {
        attend_cached(device, out.view_at(0, sequences, heads, dims), qkv.view_at(0, sequences, heads, 3, dims),
                      keys.view_at(0, sequences, heads, capacity, dims), values.view_at(0, sequences, heads, capacity, dims),
                      {calls.data(), sequences}, {.scale = 0.1f});
      },
      [&] { return read_peak(device, all); });
}
BENCHMARK_TEMPLATE(decode, float)->ArgNames({"sequences", "threads"})->ArgsProduct({{1, 8}, {1, 2}})->UseManualTime();
BENCHMARK_TEMPLATE(decode, bfloat16)->ArgNames({"sequences", "threads"})->ArgsProduct({{1, 8}, {1, 2}})->UseManualTime();

}  // namespace

BENCHMARK_MAIN();
