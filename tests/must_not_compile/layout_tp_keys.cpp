// Must not compile: golem: Layout::tp must divide ModelConfig::kv_heads.
// SPDX-License-Identifier: Apache-2.0
#include "golem/golem.hpp"

struct grouped {
  static constexpr auto config = golem::checked(golem::glm_tiny::config.with([](auto& c) { c.kv_heads = 2; }));
};

#if defined(SOUND)
inline constexpr golem::Layout layout{.tp = 2};
#else
inline constexpr golem::Layout layout{.tp = 4};
#endif

using Trainer = golem::Trainer<grouped, golem::fp32, layout>;
static_assert(sizeof(Trainer) > 0);
