// Must not compile: golem: ModelConfig::kv_heads must divide ModelConfig::heads.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/model.hpp"
#include "golem/config/presets.hpp"

struct bad {
#if defined(SOUND)
  static constexpr golem::ModelConfig config = golem::glm_tiny::config;
#else
  static constexpr golem::ModelConfig config = golem::glm_tiny::config.with([](auto& c) { c.kv_heads = 3; });
#endif
};

static_assert(golem::prove_model<bad>());
