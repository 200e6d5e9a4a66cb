// Must not compile: golem: an Engine of several ranks needs a device and a World of Layout's ranks: Engine(device, world, options).
// SPDX-License-Identifier: Apache-2.0
#include "golem/golem.hpp"

#if defined(SOUND)
inline constexpr golem::Layout layout{};
#else
inline constexpr golem::Layout layout{.tp = 2};
#endif

void generate() { golem::Engine<golem::glm_tiny, golem::fp32, layout> engine; }
