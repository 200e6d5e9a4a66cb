// Must not compile: golem: fp16_exact and fp32_exact compute as GLM-130B did: ModelConfig::rope_table must be RopeTable::fp16.
// SPDX-License-Identifier: Apache-2.0
#include "golem/golem.hpp"

struct model {
#if defined(SOUND)
  static constexpr auto config = golem::glm_tiny::config.with([](auto& c) { c.rope_table = golem::RopeTable::fp16; });
#else
  static constexpr auto config = golem::glm_tiny::config;
#endif
};

using Engine = golem::Engine<model, golem::fp16_exact>;
static_assert(sizeof(Engine) > 0);
