// What the benchmarks of the CUDA engine count: pairs, flops, and which datasheet is a device's.
// SPDX-License-Identifier: Apache-2.0
#include "bench/cuda/counts.hpp"

#include "catch.hpp"
#include "golem/config/presets.hpp"

using namespace golem;

namespace {

// Token by token, as core/batch.hpp says it.
double counted_pairs(const std::vector<Window>& windows) {
  double pairs = 0;
  for (const Window& w : windows)
    for (int i = w.begin; i < w.end; ++i) {
      pairs += w.context_end - w.context_begin;
      for (int j = w.begin; j < w.end; ++j) pairs += j <= i || j < w.begin + w.prefix;
    }
  return pairs;
}

}  // namespace

TEST_CASE("pairs are those that the mask leaves") {
  for (const int length : {1, 7, 20, 33})
    for (const int count : {1, 3, 4})
      for (const int prefix : {0, 1, 5, 40}) {
        const auto windows = bench::windows_of(length, count, prefix);
        INFO(length << " tokens, " << count << " windows, prefix " << prefix);
        CHECK(windows.front().begin == 0);
        CHECK(windows.back().end == length);
        CHECK(bench::visible_pairs(windows) == counted_pairs(windows));
      }
  const std::vector<Window> shared{{0, 9, 4}, {9, 15, 2, 3, 8}};
  CHECK(bench::visible_pairs(shared) == counted_pairs(shared));
  CHECK(bench::visible_pairs(bench::windows_of(2048, 1, 2048)) == 2048.0 * 2048);
}

TEST_CASE("a block and a step have the flops of spec 4.4 where every pair is visible") {
  const ModelConfig& c = glm_1b::config;
  const double tokens = 2.0 * c.context, pairs = tokens * c.context;
  CHECK(bench::block_flops(c, bench::Pass::forward, tokens, pairs) == Approx(tokens * (linear_flops(c) + attention_flops(c, c.context))));
  // Spec 4.4 takes backward as twice the forward; attention's makes its scores once more.
  const double again = 2 * pairs * c.hidden;
  CHECK(bench::block_flops(c, bench::Pass::both, tokens, pairs) == Approx(3 * tokens * (linear_flops(c) + attention_flops(c, c.context)) + again));
  CHECK(bench::step_flops(c, tokens, tokens, pairs) == Approx(training_flops(c, c.context, 2, Recompute::none)));
}

TEST_CASE("a device's datasheet is found by its name") {
  CHECK(bench::datasheet_of("NVIDIA H200") == &h200);
  CHECK(bench::datasheet_of("NVIDIA H100 80GB HBM3") == &h100);
  CHECK(bench::datasheet_of("NVIDIA A100-SXM4-80GB")->bf16 == a100_80gb.bf16);
  CHECK(bench::datasheet_of("NVIDIA GeForce RTX 2080 Ti") == &rtx_2080_ti);
  CHECK(bench::datasheet_of("NVIDIA A1000") == nullptr);
  CHECK(bench::datasheet_of("the host") == nullptr);
}
