// Must not compile: golem: ModelConfig::context must be at most 2048 with RopeTable::fp16.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/model.hpp"
#include "golem/config/presets.hpp"

struct bad {
#if defined(SOUND)
  static constexpr golem::ModelConfig config = golem::glm_tiny::config;
#else
  static constexpr golem::ModelConfig config = golem::glm_tiny::config.with([](auto& c) { c.rope_table = golem::RopeTable::fp16, c.context = 4096; });
#endif
};

static_assert(golem::prove_model<bad>());
