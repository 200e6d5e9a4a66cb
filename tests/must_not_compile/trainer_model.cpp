// Must not compile: golem: a model is a type with a ModelConfig `config`: struct my_glm { static constexpr auto config = golem::checked({...}); };.
// SPDX-License-Identifier: Apache-2.0
#include "golem/any_device.hpp"
#include "golem/cpu/device.hpp"

struct my_glm {
#if defined(SOUND)
  static constexpr auto config = golem::glm_tiny::config;
#else
  static constexpr int config = 2;
#endif
};

using Trainer = golem::Trainer<my_glm>;
static_assert(sizeof(Trainer) > 0);
