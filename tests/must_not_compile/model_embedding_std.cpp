// Must not compile: golem: ModelConfig::embedding_std must be at least 0.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/model.hpp"
#include "golem/config/presets.hpp"

struct bad {
#if defined(SOUND)
  static constexpr golem::ModelConfig config = golem::glm_tiny::config;
#else
  static constexpr golem::ModelConfig config = golem::glm_tiny::config.with([](auto& c) { c.embedding_std = -1; });
#endif
};

static_assert(golem::prove_model<bad>());
