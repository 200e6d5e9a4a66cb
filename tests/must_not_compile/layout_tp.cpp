// Must not compile: golem: Layout::tp must divide ModelConfig::heads.
// SPDX-License-Identifier: Apache-2.0
#include "golem/golem.hpp"

#if defined(SOUND)
inline constexpr golem::Layout layout{.tp = 2};
#else
inline constexpr golem::Layout layout{.tp = 8};
#endif

using Trainer = golem::Trainer<golem::glm_tiny, golem::fp32, layout>;
static_assert(sizeof(Trainer) > 0);
