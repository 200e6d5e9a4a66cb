// The shapes that the CUDA benchmarks run at: those of GLM-130B, or small ones, where only their sense is tested, on the host.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/config/plan_training.hpp"
#include "golem/config/presets.hpp"

namespace bench {

struct Shapes {
  std::int64_t tokens = 2048;     // N: a micro-batch of GLM-130B, one row of its context
  std::int64_t hidden = 12288, heads = 96, ffn = 32768, vocab = 150528;
  std::int64_t scored[2]{golem::head_chunk(golem::glm_130b::config), 2048};  // rows of logits at once: as the head takes them by default, and as a GPU wants them
  std::int64_t elements = std::int64_t{12288} * 12288;  // that the optimizer moves in one call: a square matrix
  std::int64_t lengths[2]{2048, 8192};                  // T of attention
  int block_rows[2]{1, 4};                              // rows of 2048 tokens through one block
  int step_rows = 16, micro_batch = 8, step_scored = 8192;  // of the training step; tokens whose logits it holds at once
  std::int64_t copy_bytes = std::int64_t{1} << 29;      // read, and written, by the copy that is a limit
  std::int64_t product_side = 8192;                     // of the matrices of the product that is a limit
  std::int64_t rotated_bytes = std::int64_t{1} << 29;   // that calls in turn go through: several times any cache
  double sample_seconds = 1e-3;                         // of work between two events, at least
  int samples = 21, long_samples = 9;                   // whose median counts
};

#ifdef GOLEM_BENCH_SMALL
inline constexpr Shapes shapes{.tokens = 6, .hidden = 128, .heads = 2, .ffn = 72, .vocab = 104, .scored = {5, 3}, .elements = 520,
                               .lengths = {20, 36}, .block_rows = {1, 2}, .step_rows = 2, .micro_batch = 1, .step_scored = 3,
                               .copy_bytes = 4096, .product_side = 16, .rotated_bytes = 1 << 14, .sample_seconds = 0, .samples = 2, .long_samples = 1};

struct block_model {
  static constexpr auto config =
      golem::checked({.layers = 2, .hidden = 64, .heads = 4, .ffn = 40, .vocab = 96, .context = 8, .rope_table = golem::RopeTable::fp16, .dropout = 0.1});
};
struct step_model {
  static constexpr auto config = golem::checked({.layers = 2, .hidden = 64, .heads = 4, .ffn = 40, .vocab = 96, .context = 8});
};
#else
inline constexpr Shapes shapes{};

using block_model = golem::glm_130b;
/// 24 x 2048. Nothing is dropped, as in the figures of others.
struct step_model {
  static constexpr auto config = golem::checked(golem::glm_1b::config.with([](auto& c) { c.dropout = 0; }));
};
#endif

}  // namespace bench
