// Must not compile: golem: Layout::pp must be at most ModelConfig::layers + 2, since embedding and head count as a layer each.
// SPDX-License-Identifier: Apache-2.0
#include "golem/golem.hpp"

#if defined(SOUND)
inline constexpr golem::Layout layout{.pp = 4};
#else
inline constexpr golem::Layout layout{.pp = 5};
#endif

using Trainer = golem::Trainer<golem::glm_tiny, golem::fp32, layout>;
static_assert(sizeof(Trainer) > 0);
