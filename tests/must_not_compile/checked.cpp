// Must not compile: golem: ModelConfig::heads must divide ModelConfig::hidden.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/model.hpp"

// The value path: `checked` ends the compilation where the configuration is written, before any class needs it.
#if defined(SOUND)
constexpr int heads = 4;
#else
constexpr int heads = 5;
#endif

inline constexpr auto config = golem::checked({.layers = 2, .hidden = 64, .heads = heads, .ffn = 176, .vocab = 512, .context = 64});
