// A workbench for one benchmark: random tensors that calls take in turn, the bytes that a call moves, and its time beside the chip's limit.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "golem/core/buffer.hpp"
#include "golem/cuda/device.hpp"
#include "limits.cuh"
#include "shapes.hpp"

namespace bench {

inline double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

/// Times work on the device, in turn with the limit, and writes the medians to the row. `amount`: bytes or flops of one call.
/// `call(i)` starts call number i; as many are timed at once as fill `sample_seconds`, so that gaps between launches do not count.
template <class Limit, class Call>
void sample(benchmark::State& state, Device& device, double amount, const Call& call) {
  Stopwatch watch(device);
  Limit limit(device);
  std::int64_t next = 0;
  call(next++);  // plans, grows workspaces
  watch.mark(2);
  call(next++);
  watch.mark(3);
  const double once = watch.seconds(2, 3);
  const auto calls = static_cast<std::int64_t>(golem::larger(1.0, golem::smaller(200.0, shapes.sample_seconds / once)));
  limit.start(watch);  // wakes the chip
  std::vector<double> seconds, limits, shares;
  for (auto _ : state) {
    limit.start(watch);  // while it runs, the host starts the calls
    for (std::int64_t i = 0; i < calls; ++i) call(next++);
    watch.mark(3);
    seconds.push_back(watch.seconds(2, 3) / static_cast<double>(calls));
    limits.push_back(limit.rate(watch));
    shares.push_back(amount / seconds.back() / limits.back());
    state.SetIterationTime(seconds.back());
  }
  const double scale = Limit::unit[0] == 'G' ? 1e-9 : 1e-12;
  state.counters["ms"] = 1e3 * median(seconds);
  state.counters[Limit::unit] = scale * amount / median(seconds);
  state.counters["limit"] = scale * median(limits);
  state.counters["of_limit"] = median(shares);
}

class Workbench {
 public:
  explicit Workbench(const Device::Options& options) : device(options) {}

  Device device;

  /// Elements of [low, high), or of [-1, 1), under the given shape.
  template <class T, class... Extents>
  View<T, sizeof...(Extents)> numbers_in(float low, float high, Extents... extents) {
    View<T, sizeof...(Extents)> view{nullptr, extents...};
    view.data = reinterpret_cast<T*>(buffers_.emplace_back(device, view.size() * static_cast<std::int64_t>(sizeof(T)), "bench").data());
    held_ += static_cast<std::int64_t>(buffers_.back().bytes());
    fill(device, view.data, view.size(), 100 + buffers_.size(), low, high);
    return view;
  }
  template <class T, class... Extents>
  View<T, sizeof...(Extents)> numbers(Extents... extents) {
    return numbers_in<T>(-1, 1, extents...);
  }
  /// Copies what the host holds.
  template <class E>
  View<const E, 1> values(const std::vector<E>& from) {
    Buffer<std::byte, Device>& buffer = buffers_.emplace_back(device, static_cast<std::int64_t>(from.size() * sizeof(E)), "bench");
    device.copy_in(buffer.data(), from.data(), buffer.bytes());
    return {reinterpret_cast<const E*>(buffer.data()), static_cast<std::int64_t>(from.size())};
  }
  /// Numbers 0 .. n-1, drawn anew in each call.
  std::vector<std::int32_t> drawn(std::int64_t count, std::int64_t n) {
    std::vector<std::int32_t> numbers(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<std::int32_t>(golem::Random{2, buffers_.size()}.below(i, static_cast<std::uint64_t>(n)));
    return numbers;
  }
  View<const std::int32_t, 1> indices(std::int64_t count, std::int64_t n) { return values(drawn(count, n)); }

  // What a call reads and writes, each once. An argument that it reads and writes is named in both.
  template <class V>
  V read(V view) {
    return moves(view.size() * static_cast<std::int64_t>(sizeof *view.data)), view;
  }
  template <class V>
  V write(V view) {
    return read(view);
  }
  void moves(std::int64_t bytes) { moved_ += static_cast<double>(bytes); }

  /// Times calls that make(bench) returns, each with tensors of its own, against a copy of as many bytes as they read and write.
  template <class Make>
  void measure_bytes(benchmark::State& state, const Make& make) {
    measure<CopyLimit>(state, 0, make);
  }
  /// The same against a large product, where a call has so many flops.
  template <class Make>
  void measure_flops(benchmark::State& state, double flops, const Make& make) {
    measure<ProductLimit>(state, flops, make);
  }

 private:
  template <class Limit, class Make>
  void measure(benchmark::State& state, double amount, const Make& make) {
    std::vector<decltype(make(*this))> calls;
    held_ = 0;
    calls.push_back(make(*this));
    if (amount == 0) amount = moved_;
    const std::int64_t sets = held_ == 0 ? 1 : golem::smaller<std::int64_t>(64, golem::ceil_div(shapes.rotated_bytes, held_));
    while (static_cast<std::int64_t>(calls.size()) < sets) calls.push_back(make(*this));
    sample<Limit>(state, device, amount, [&](std::int64_t i) { calls[static_cast<std::size_t>(i) % calls.size()](); });
  }

  std::vector<Buffer<std::byte, Device>> buffers_;
  std::int64_t held_ = 0;  // bytes of the tensors of one call
  double moved_ = 0;       // bytes that it reads and writes
};

/// Runs a benchmark on a workbench of its own; what goes wrong is told in its row.
template <class Body>
void on_device(benchmark::State& state, const Body& body, const Device::Options& options = {}) {
  try {
    Workbench bench(options);
    body(bench);
    bench.device.synchronize();
  } catch (const golem::Error& error) {
    state.SkipWithError(error.what());
  }
}

/// How each row is timed: by events of the device's stream, a fixed number of samples.
inline constexpr auto timed = [](auto* b) { b->UseManualTime()->Iterations(shapes.samples); };
inline constexpr auto timed_long = [](auto* b) { b->UseManualTime()->Iterations(shapes.long_samples); };

}  // namespace bench
