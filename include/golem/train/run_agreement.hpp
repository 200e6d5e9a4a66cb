// What all ranks of a training run must have in common: ranks that were started with something else find out before the first step.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "golem/comm/world.hpp"
#include "golem/config/describe.hpp"
#include "golem/config/precision.hpp"
#include "golem/core/error.hpp"
#include "golem/core/number.hpp"
#include "golem/version.hpp"

namespace golem {

/// One text for each thing on which ranks are compared; the seed is part of `training`.
struct RunTerms {
  std::string version = sentence(golem::version.major, '.', golem::version.minor, '.', golem::version.patch);
  std::string model, precision, layout, training;
};

/// The terms of a rank that trains M in precision P: also what decides no tensor's shape, such as dropout, and the types behind the precision's name.
template <Model M, TrainingPrecision P>
RunTerms terms_of(const Layout& layout, const TrainingConfig& config) {
  constexpr const ModelConfig& c = M::config;
  RunTerms out;
  out.model = sentence(describe(c), ", context ", c.context, ", dropout ", c.dropout, ", embedding std ", c.embedding_std, ", initial gain ", c.beta());
  out.precision = sentence(P::name, " (", name_of(dtype_of<typename P::compute>()), ", master ", name_of(dtype_of<typename P::master>()), ", gradients ", name_of(dtype_of<typename P::gradient>()), ")");
  out.layout = describe(layout);
  out.training = describe(config);
  return out;
}

/// Returns where all ranks of the world have the same terms; else ends the run with one sentence, about the first that differs.
inline void agree(World& world, const RunTerms& terms) {
  world.agree("golem's version", terms.version);
  world.agree("the model", terms.model);
  world.agree("the precision", terms.precision);
  world.agree("the layout", terms.layout);
  world.agree("the training configuration", terms.training);
}

}  // namespace golem
