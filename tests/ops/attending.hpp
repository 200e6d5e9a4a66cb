// Cases of attention for every engine, and one call of it forward and backward.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "ops/engine.hpp"
#include "oracle/attention.hpp"

namespace ops {

using namespace golem;

template <class To, class From>
std::vector<To> converted(const std::vector<From>& from) {
  std::vector<To> to(from.size());
  for (std::size_t i = 0; i < from.size(); ++i) to[i] = static_cast<To>(from[i]);
  return to;
}

inline std::vector<double> normals(std::size_t count, std::uint64_t stream) {
  std::vector<double> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = Random{7, stream}.normal(i);
  return values;
}

/// Calls body(device) for each device, and, where T is a type that they take, for one that attends by the instructions of sm_90a, and on
/// the host for one that has its memory alone.
template <class T, class Body>
void on_each_attention(const Body& body) {
#if defined(GOLEM_TEST_GPU)
  for (const auto path : {cuda::AttentionPath::mma, cuda::AttentionPath::wgmma}) {
    INFO((path == cuda::AttentionPath::mma ? "by mma.sync" : "by wgmma, where the GPU has it"));
    TestDevice device({.attention = path});
    body(device);
    device.synchronize();
    if (sizeof(T) != 2) return;
  }
#else
  on_each_device(body);
#endif
#if defined(GOLEM_TEST_CUDA)
  if (sizeof(T) != 2) return;
  const simt::MachineRestored restored;
  simt::machine().major = 9;
  {
    INFO("by mma, with memory for more stages");
    TestDevice device;
    body(device);
    device.synchronize();
  }
  for (const std::uint64_t order : {1, 2}) {
    simt::set_order(order);
    INFO("sm_90a, order " << order);
    TestDevice device;
    body(device);
    device.synchronize();
  }
  simt::set_order(1);
#endif
}

/// The windows of a case, on a device.
template <class D>
struct Windows {
  Buffer<Window, D> all;
  Buffer<std::int32_t, D> first;

  Windows(D& device, const oracle::AttentionCase& c) {
    std::vector<Window> windows;
    std::vector<std::int32_t> firsts{0};
    for (const auto& row : c.windows) {
      windows.insert(windows.end(), row.begin(), row.end());
      firsts.push_back(static_cast<std::int32_t>(windows.size()));
    }
    all = upload(device, windows);
    first = upload(device, firsts);
  }
  WindowList list() const { return {all.view(), first.view()}; }
};

inline AttentionOptions options_of(const oracle::AttentionCase& c, float layer_scale = 1, Rounding rounding = Rounding::once) {
  return {.scale = static_cast<float>(c.scale), .layer_scale = layer_scale, .dropout = c.dropout, .random = c.random, .rounding = rounding};
}

template <class T>
struct Result {
  std::vector<T> out;
  std::vector<accumulate_t<T>> log_sum;
  std::vector<T> dqkv;  // empty unless a gradient was given
};

/// Options: AttentionOptions, or an AttentionOptionsOf.
template <class Options = AttentionOptions, class T, class D>
Result<T> run(D& device, const oracle::AttentionCase& c, const std::vector<T>& qkv, const std::vector<T>& dout = {}, float layer_scale = 1,
              Rounding rounding = Rounding::once) {
  using A = accumulate_t<T>;
  const std::int64_t tokens = c.rows * c.length, heads = c.heads, dims = c.dims;
  const auto x = upload(device, qkv);
  Buffer<T, D> y(device, tokens * heads * dims, "test");
  Buffer<A, D> log_sum(device, tokens * heads, "test");
  const Windows<D> windows(device, c);
  const auto x4 = x.view_at(0, tokens, heads / c.sharers, c.sharers + 2, dims);
  const auto y3 = y.view_at(0, tokens, heads, dims);
  const auto l3 = log_sum.view_at(0, c.rows, heads, c.length);
  attend(device, y3, l3, x4, c.rows, windows.list(), Options{options_of(c, layer_scale, rounding)});
  Result<T> result{download(device, y), download(device, log_sum), {}};
  if (dout.empty()) return result;
  const auto dy = upload(device, dout);
  Buffer<T, D> dx = upload(device, std::vector<T>(qkv.size(), T(99.0f)));
  attend_backward(device, dx.view_at(0, tokens, heads / c.sharers, c.sharers + 2, dims), dy.view_at(0, tokens, heads, dims), y3, l3, x4, c.rows, windows.list(),
                  Options{options_of(c, layer_scale)});
  result.dqkv = download(device, dx);
  return result;
}

template <class T, class U>
double largest_difference(const std::vector<T>& a, const std::vector<U>& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(difference <= largest)) largest = difference;  // NaN stays
  }
  return largest;
}

/// Odd sizes first; windows that end, start and leave gaps anywhere in a tile.
inline std::vector<oracle::AttentionCase> cases() {
  const auto make = [](int rows, int length, int heads, int dims, std::vector<std::vector<Window>> windows) {
    return oracle::AttentionCase{.rows = rows,
                                 .length = length,
                                 .heads = heads,
                                 .dims = dims,
                                 .windows = std::move(windows),
                                 .scale = static_cast<float>(1 / std::sqrt(dims))};
  };
  const auto shared = [&](int sharers, oracle::AttentionCase c) {
    c.sharers = sharers;
    return c;
  };
  return {make(1, 1, 1, 2, {{{0, 1, 0}}}),        make(2, 7, 3, 6, {{{0, 7, 3}}, {{1, 3, 1}, {3, 6, 0}}}),
          make(2, 67, 1, 30, {{{0, 67, 0}}, {}}), make(1, 64, 2, 64, {{{0, 64, 10}}}),
          make(1, 200, 2, 80, {{{0, 200, 131}}}), make(2, 193, 1, 32, {{{0, 50, 7}, {50, 130, 80}, {140, 193, 0}}, {{0, 193, 193}}}),
          make(1, 150, 1, 128, {{{0, 150, 33}}}), make(1, 70, 1, 144, {{{0, 70, 70}}}),
          make(1, 65, 2, 256, {{{3, 65, 5}}}),
          // heads that do not fill the sections that they are cut in, on the host's small cache
          make(2, 70, 3, 32, {{{0, 70, 31}}, {{0, 70, 0}}}), shared(2, make(1, 40, 6, 32, {{{0, 40, 11}}})),
          // choices behind a text that they share (spec 7.2): within a tile, and across tiles with rows of their own, gaps, and two texts
          make(2, 29, 2, 6, {{{0, 11, 11}, {11, 14, 0, 0, 11}, {14, 15, 0, 0, 11}, {15, 22, 0, 0, 11}}, {{0, 29, 5}}}),
          make(2, 270, 1, 32, {{{0, 90, 90}, {90, 133, 0, 0, 90}, {133, 134, 0, 0, 90}, {134, 260, 2, 0, 90}},
                               {{2, 40, 38}, {45, 80, 0, 2, 40}, {80, 170, 90}, {170, 171, 0, 90, 169}, {171, 250, 0, 80, 170}}}),
          // heads that share keys and values: all of them, and two groups; within a tile, across tiles, and in the wide heads that warps share
          shared(3, make(2, 7, 3, 6, {{{0, 7, 3}}, {{1, 3, 1}, {3, 6, 0}}})),
          shared(2, make(1, 70, 4, 16, {{{0, 70, 31}}})),
          shared(2, make(2, 193, 2, 32, {{{0, 50, 7}, {50, 130, 80}, {140, 193, 0}}, {{0, 193, 193}}})),
          shared(2, make(1, 150, 2, 128, {{{0, 150, 33}}})),
          shared(2, make(1, 70, 2, 144, {{{0, 70, 70}}}))};
}

template <class T>
inline constexpr double unit = std::is_same_v<T, double>    ? 1e-15
                        : std::is_same_v<T, float>   ? 6e-8
                        : std::is_same_v<T, float16> ? 4.9e-4
                                                     : 3.9e-3;

}  // namespace ops
