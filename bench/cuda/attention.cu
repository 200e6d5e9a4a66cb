// Attention at GLM-130B's width: forward and backward under its masks, flops of visible pairs alone, and one token or a prompt through a key-value cache.
// SPDX-License-Identifier: Apache-2.0
#include "golem/cuda/attention.cuh"

#include <cmath>

#include "counts.hpp"
#include "measure.cuh"
#include "report.hpp"

namespace {

using namespace golem;
using bench::shapes, bench::Workbench, cuda::AttentionPath;

enum class Pass { forward, backward };

/// Arguments: a row of T tokens in heads of D dims, in so many windows, the first tokens of each its prefix.
template <class T, Pass pass, AttentionPath path = AttentionPath::mma>
void attention(benchmark::State& state) {
  const std::int64_t length = state.range(0), dims = state.range(1), heads = shapes.hidden / dims;
  const std::vector<Window> mask = bench::windows_of(length, static_cast<int>(state.range(2)), state.range(3));
  const double flops = (pass == Pass::forward ? bench::attention_forward_flops : bench::attention_backward_flops) * static_cast<double>(shapes.hidden) * bench::visible_pairs(mask);
  bench::on_device(state, [&](Workbench& b) {
    const WindowList windows{b.values(mask), b.values(std::vector<std::int32_t>{0, static_cast<std::int32_t>(mask.size())})};
    const AttentionOptions options{.scale = 1 / std::sqrt(static_cast<double>(dims))};
    b.measure_flops(state, flops, [=](Workbench& w) {
      const auto qkv = w.numbers<T>(length, heads, std::int64_t{3}, dims);
      const auto out = w.numbers<T>(length, heads, dims);
      const auto log_sum = w.numbers<float>(std::int64_t{1}, heads, length);
      const auto forward = [=, &w] { cuda::attend(w.device, out, log_sum, qkv, 1, windows, options); };
      if constexpr (pass == Pass::forward) {
        return forward;
      } else {
        forward();  // the backward pass reads what it made
        const auto dout = w.numbers<T>(length, heads, dims);
        const auto dqkv = w.numbers<T>(length, heads, std::int64_t{3}, dims);
        return [=, &w] { cuda::attend_backward(w.device, dqkv, dout, out, log_sum, qkv, 1, windows, options); };
      }
    });
    state.counters["heads"] = static_cast<double>(heads);
  }, {.attention = path});
}

/// Whether the first GPU is one that wgmma runs on.
bool has_wgmma() {
  try {
    return cuda::runtime::device_count() > 0 && cuda::Device().compute_capability() == 90;
  } catch (const Error&) {
    return false;  // bench::run says why there is none
  }
}

/// Arguments: so many sequences, each with so many tokens in its cache, and one new one.
template <class T>
void decode(benchmark::State& state) {
  const std::int64_t sequences = state.range(0), cached = state.range(1), heads = shapes.heads, dims = shapes.hidden / heads;
  bench::on_device(state, [&](Workbench& b) {
    b.measure_bytes(state, [=](Workbench& w) {
      const auto keys = w.read(w.numbers<T>(sequences, heads, cached, dims)), values = w.read(w.numbers<T>(sequences, heads, cached, dims));
      const auto qkv = w.read(w.numbers<T>(sequences, heads, std::int64_t{3}, dims));
      const auto out = w.write(w.numbers<T>(sequences, heads, dims));
      std::vector<CachedSequence> calls;
      for (std::int32_t s = 0; s < sequences; ++s) calls.push_back({.row = s, .count = 1, .first = static_cast<std::int32_t>(cached) - 1, .slot = s});
      const auto list = w.values(calls);
      return [=, &w] { cuda::attend_cached(w.device, out, qkv, keys, values, list, {.scale = 0.1}); };
    });
  });
}

/// Arguments: so many sequences, each a prompt of so many tokens, all of which its tokens see, that are new to the cache.
template <class T>
void prompt(benchmark::State& state) {
  const std::int64_t sequences = state.range(0), length = state.range(1), heads = shapes.heads, dims = shapes.hidden / heads, tokens = sequences * length;
  const double flops = bench::attention_forward_flops * static_cast<double>(shapes.hidden) * static_cast<double>(tokens * length);
  bench::on_device(state, [&](Workbench& b) {
    b.measure_flops(state, flops, [=](Workbench& w) {
      const auto keys = w.numbers<T>(sequences, heads, length, dims), values = w.numbers<T>(sequences, heads, length, dims);
      const auto qkv = w.numbers<T>(tokens, heads, std::int64_t{3}, dims);
      const auto out = w.numbers<T>(tokens, heads, dims);
      std::vector<CachedSequence> calls;
      for (std::int64_t s = 0; s < sequences; ++s) {
        const auto slot = static_cast<std::int32_t>(s), count = static_cast<std::int32_t>(length);
        calls.push_back({.row = slot * count, .count = count, .first = 0, .prefix = count, .slot = slot});
      }
      const auto list = w.values(calls);
      return [=, &w] { cuda::attend_cached(w.device, out, qkv, keys, values, list, {.scale = 0.1}); };
    });
  });
}

/// Prefix of half, causal, four packed windows with half of each its prefix, and all pairs visible.
constexpr auto masks = [](auto* b) {
  b->ArgNames({"T", "D", "windows", "prefix"});
  for (const std::int64_t dims : {64, 128})
    for (const std::int64_t length : shapes.lengths) {
      b->Args({length, dims, 1, length / 2})->Args({length, dims, 1, 0});
      if (dims == 128) b->Args({length, dims, 4, length / 8})->Args({length, dims, 1, length});
    }
  bench::timed(b);
};
/// Without matrix instructions: causal alone, at the shorter length.
constexpr auto plain_masks = [](auto* b) {
  b->ArgNames({"T", "D", "windows", "prefix"});
  for (const std::int64_t dims : {64, 128}) b->Args({shapes.lengths[0], dims, 1, 0});
  bench::timed(b);
};
constexpr auto caches = [](auto* b) {
  b->ArgNames({"sequences", "cached"});
  for (const std::int64_t sequences : {1, 8}) b->Args({sequences, shapes.lengths[0]});
  bench::timed(b);
};

}  // namespace

BENCHMARK_TEMPLATE(attention, bfloat16, Pass::forward)->Apply(masks);
BENCHMARK_TEMPLATE(attention, bfloat16, Pass::backward)->Apply(masks);
BENCHMARK_TEMPLATE(attention, float, Pass::forward)->Apply(plain_masks);
BENCHMARK_TEMPLATE(attention, float, Pass::backward)->Apply(plain_masks);
BENCHMARK_TEMPLATE(decode, float16)->Apply(caches);
BENCHMARK_TEMPLATE(prompt, float16)->Apply(caches);

int main(int argc, char** argv) {
  if (has_wgmma()) {
    benchmark::RegisterBenchmark("attention<bfloat16, Pass::forward, AttentionPath::wgmma>", attention<bfloat16, Pass::forward, AttentionPath::wgmma>)->Apply(masks);
    benchmark::RegisterBenchmark("attention<bfloat16, Pass::backward, AttentionPath::wgmma>", attention<bfloat16, Pass::backward, AttentionPath::wgmma>)->Apply(masks);
  }
  return bench::run(argc, argv);
}
