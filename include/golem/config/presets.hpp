// The models that come with golem: GLM-130B, the GLM family's smaller sizes in its architecture, and sizes for one machine.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "golem/config/model.hpp"

namespace golem {

/// GLM-130B (spec 1.1): 128,697,794,560 parameters.
struct glm_130b {
  static constexpr auto config = checked({.layers = 70,
                                          .hidden = 12288,
                                          .heads = 96,
                                          .ffn = 32768,
                                          .vocab = 150528,
                                          .context = 2048,
                                          .norm = Norm::deep,
                                          .position = Position::rope,
                                          .rope_table = RopeTable::fp16,
                                          .ffn_kind = Ffn::geglu,
                                          .mask = Mask::prefix,
                                          .dropout = 0.1});
};

/// The shapes of GLM-10B (48 x 4096) in GLM-130B's architecture.
struct glm_10b {
  static constexpr auto config = checked(glm_130b::config.with([](auto& c) { c.layers = 48, c.hidden = 4096, c.heads = 64, c.ffn = 10944; }));
};

/// 1.3B class: 24 x 2048.
struct glm_1b {
  static constexpr auto config = checked(glm_130b::config.with([](auto& c) { c.layers = 24, c.hidden = 2048, c.heads = 16, c.ffn = 5504, c.rope_table = RopeTable::exact; }));
};

/// 12 x 768 with a vocabulary of 32,000: a first model of one's own.
struct glm_base {
  static constexpr auto config = checked({.layers = 12, .hidden = 768, .heads = 12, .ffn = 2048, .vocab = 32000, .context = 1024, .embedding_std = 0.02});
};

/// 4 x 192 with a vocabulary of 16,384: learns from a few megabytes of text in minutes, on a CPU. With GLM-130B's initial
/// gain it would spend those minutes at the frequencies of single tokens: the residual drowns what the layers add.
struct glm_small {
  static constexpr auto config =
      checked({.layers = 4, .hidden = 192, .heads = 3, .ffn = 512, .vocab = 16384, .context = 256, .embedding_std = 0.02, .initial_gain = 1});
};

/// 2 x 64: for tests and first steps.
struct glm_tiny {
  static constexpr auto config = checked({.layers = 2, .hidden = 64, .heads = 4, .ffn = 176, .vocab = 512, .context = 64, .embedding_std = 0.02});
};

}  // namespace golem
