// Must not compile: golem: ModelConfig::rope_base must be above 0.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/model.hpp"
#include "golem/config/presets.hpp"

struct bad {
#if defined(SOUND)
  static constexpr golem::ModelConfig config = golem::glm_tiny::config;
#else
  static constexpr golem::ModelConfig config = golem::glm_tiny::config.with([](auto& c) { c.rope_base = 0; });
#endif
};

static_assert(golem::prove_model<bad>());
