// Quantised products as shares of what the machine can do: one token of a pure read, many tokens of the arithmetic peak.
// SPDX-License-Identifier: Apache-2.0
#include "golem/cpu/quantized_gemm.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "golem/core/random.hpp"

using golem::Activations, golem::bfloat16, golem::float16, golem::Quant, golem::QuantizedView, golem::View;

namespace limits {

// Each runs on all threads of the device and returns seconds. Peaks count operations as 2 a multiply-add.

inline double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

[[gnu::target("avx512f")]] inline void read_piece(const std::uint8_t* from, std::int64_t bytes) {
  __m512i sum[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
  for (std::int64_t i = 0; i + 256 <= bytes; i += 256)
    for (int k = 0; k < 4; ++k) {
      _mm_prefetch(reinterpret_cast<const char*>(from + i + 64 * k + 8192), _MM_HINT_T1);
      sum[k] = _mm512_add_epi32(sum[k], _mm512_loadu_si512(from + i + 64 * k));
    }
  for (int k = 0; k < 4; ++k) benchmark::DoNotOptimize(sum[k]);
}
inline double read(golem::cpu::Device& device, const std::uint8_t* from, std::int64_t bytes) {
  const std::int64_t piece = 32768;
  const double start = now();
  device.parallel(bytes / piece, [&](std::int64_t i) { read_piece(from + i * piece, piece); });
  return now() - start;
}

constexpr std::int64_t steps = 200000;

[[gnu::target("avx512f,avx512vnni")]] inline void int8_piece() {
  __m512i sum[16], a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(2);
  for (int k = 0; k < 16; ++k) sum[k] = _mm512_setzero_si512();
  for (std::int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 16
    for (int k = 0; k < 16; ++k) sum[k] = _mm512_dpbusd_epi32(sum[k], a, b);
  }
  for (int k = 0; k < 16; ++k) benchmark::DoNotOptimize(sum[k]);
}
[[gnu::target("avx512f")]] inline void fma_piece() {
  __m512 sum[16], a = _mm512_set1_ps(1.0f), b = _mm512_set1_ps(1e-9f);
  for (int k = 0; k < 16; ++k) sum[k] = _mm512_setzero_ps();
  for (std::int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 16
    for (int k = 0; k < 16; ++k) sum[k] = _mm512_fmadd_ps(a, b, sum[k]);
  }
  for (int k = 0; k < 16; ++k) benchmark::DoNotOptimize(sum[k]);
}
/// Operations a second.
inline double int8_peak(golem::cpu::Device& device) {
  const double start = now();
  device.parallel(device.threads(), [](std::int64_t) { int8_piece(); });
  return static_cast<double>(device.threads()) * steps * 16 * 128 / (now() - start);
}
inline double fma_peak(golem::cpu::Device& device) {
  const double start = now();
  device.parallel(device.threads(), [](std::int64_t) { fma_piece(); });
  return static_cast<double>(device.threads()) * steps * 16 * 32 / (now() - start);
}

}  // namespace limits

namespace {

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

/// More weights than any cache holds, shared by all benchmarks.
std::vector<std::uint8_t>& pool() {
  static std::vector<std::uint8_t> bytes = [] {
    std::vector<std::uint8_t> b(std::size_t{640} << 20);
    std::uint64_t x = 1;
    for (auto& byte : b) byte = static_cast<std::uint8_t>((x = x * 6364136223846793005u + 1442695040888963407u) >> 56);
    return b;
  }();
  return bytes;
}

/// range: threads, tokens, hidden size. Weights and their scales stream from memory, and both count; the limit is measured in turn with each product.
template <Quant Q, class T>
void project(benchmark::State& state) {
  golem::cpu::Device device({.threads = static_cast<int>(state.range(0))});
  const std::int64_t tokens = state.range(1), size = state.range(2), scale_count = size * Q.groups(size);
  const std::int64_t weight_bytes = size * Q.row_bytes(size), bytes = weight_bytes + scale_count * static_cast<std::int64_t>(sizeof(float16));
  const auto matrices = (static_cast<std::int64_t>(pool().size()) - bytes) / weight_bytes;
  const std::vector<float16> scales(static_cast<std::size_t>(matrices * scale_count), float16(0.01f));
  std::vector<T> x(static_cast<std::size_t>(tokens * size)), y(x.size());
  const golem::Random random{.seed = 1};
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = T(random.normal(i));
  const double operations = 2.0 * static_cast<double>(tokens) * static_cast<double>(size) * static_cast<double>(size);
  std::vector<double> seconds, reads, peaks;
  std::int64_t matrix = 0;
  for (auto _ : state) {
    if (tokens <= 16) reads.push_back(limits::read(device, pool().data() + (matrix + matrices / 2) % matrices * weight_bytes, bytes));
    peaks.push_back(Q.activations == Activations::int8 ? limits::int8_peak(device) : limits::fma_peak(device));
    const double start = limits::now();
    golem::cpu::project(device, View<T, 2>(y.data(), tokens, size), View<const T, 2>(x.data(), tokens, size),
                        QuantizedView<Q>(size, size, pool().data() + matrix * weight_bytes, scales.data() + matrix * scale_count), View<const T, 1>{});
    seconds.push_back(limits::now() - start);
    state.SetIterationTime(seconds.back());
    matrix = (matrix + 1) % matrices;
  }
  const double time = median(seconds);
  state.counters["GB/s"] = static_cast<double>(bytes) / time * 1e-9;
  state.counters["GOP/s"] = operations / time * 1e-9;
  if (!reads.empty()) state.counters["of_read"] = median(reads) / time;
  state.counters["of_peak"] = operations / time / median(peaks);
  state.counters["peak_GOP/s"] = median(peaks) * 1e-9;
}

void one(benchmark::internal::Benchmark* b) {
  b->ArgNames({"threads", "tokens", "size"})->UseManualTime()->Unit(benchmark::kMicrosecond);
  for (const int threads : {1, 2}) b->Args({threads, 1, 4096});
}
void few(benchmark::internal::Benchmark* b) {
  b->ArgNames({"threads", "tokens", "size"})->UseManualTime()->Unit(benchmark::kMicrosecond);
  for (const int threads : {1, 2})
    for (const int tokens : {2, 4, 5, 6, 8, 12, 16}) b->Args({threads, tokens, 4096});
}
void many(benchmark::internal::Benchmark* b) {
  b->ArgNames({"threads", "tokens", "size"})->UseManualTime()->Unit(benchmark::kMillisecond);
  for (const int threads : {1, 2}) b->Args({threads, 512, 4096});
}

constexpr Activations int8 = Activations::int8, exact = Activations::exact;

}  // namespace

BENCHMARK_TEMPLATE(project, Quant{.bits = 4, .group = 128, .activations = int8}, float)->Apply(one);
BENCHMARK_TEMPLATE(project, Quant{.bits = 4, .group = 0, .activations = int8}, float)->Apply(one);
BENCHMARK_TEMPLATE(project, Quant{.bits = 4, .group = 32, .activations = int8}, float)->Apply(one);
BENCHMARK_TEMPLATE(project, Quant{.bits = 8, .group = 0, .activations = int8}, float)->Apply(one);
BENCHMARK_TEMPLATE(project, Quant{.bits = 4, .group = 128}, float)->Apply(one);
BENCHMARK_TEMPLATE(project, Quant{.bits = 4, .group = 0}, bfloat16)->Apply(one);
BENCHMARK_TEMPLATE(project, Quant{.bits = 8, .group = 0}, float)->Apply(one);

BENCHMARK_TEMPLATE(project, Quant{.bits = 4, .group = 128, .activations = int8}, float)->Apply(few);
BENCHMARK_TEMPLATE(project, Quant{.bits = 8, .group = 0, .activations = int8}, float)->Apply(few);
BENCHMARK_TEMPLATE(project, Quant{.bits = 4, .group = 128}, float)->Apply(few);

BENCHMARK_TEMPLATE(project, Quant{.bits = 4, .group = 128, .activations = int8}, float)->Apply(many);
BENCHMARK_TEMPLATE(project, Quant{.bits = 4, .group = 0, .activations = int8}, bfloat16)->Apply(many);
BENCHMARK_TEMPLATE(project, Quant{.bits = 8, .group = 0, .activations = int8}, float)->Apply(many);
BENCHMARK_TEMPLATE(project, Quant{.bits = 4, .group = 128}, float)->Apply(many);
BENCHMARK_TEMPLATE(project, Quant{.bits = 4, .group = 0}, bfloat16)->Apply(many);
BENCHMARK_TEMPLATE(project, Quant{.bits = 8, .group = 0}, float)->Apply(many);

BENCHMARK_MAIN();
