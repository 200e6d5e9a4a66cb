// Must not compile: golem: a Trainer of several ranks needs a device and a World of Layout's ranks: Trainer(device, config, world).
// SPDX-License-Identifier: Apache-2.0
#include "golem/golem.hpp"

#if defined(SOUND)
inline constexpr golem::Layout layout{};
#else
inline constexpr golem::Layout layout{.dp = 2};
#endif

void train() { golem::Trainer<golem::glm_tiny, golem::fp32, layout> trainer; }
