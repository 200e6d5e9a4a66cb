// What all ranks of a run must have in common, as texts: ranks that were started with something else find out before they compute anything.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "golem/comm/world.hpp"
#include "golem/config/describe.hpp"
#include "golem/config/model.hpp"
#include "golem/core/error.hpp"
#include "golem/version.hpp"

namespace golem {

/// One text for each thing on which ranks are compared.
struct RunTerms {
  std::string version = sentence(golem::version.major, '.', golem::version.minor, '.', golem::version.patch);
  std::string model, precision, layout;
  std::string options, options_name;  // what the run was told, and what that is called: "the training configuration"
};

/// All that a model is, also what decides no tensor's shape, such as dropout.
inline std::string terms_of(const ModelConfig& c) {
  return sentence(describe(c), ", context ", c.context, ", dropout ", c.dropout, ", embedding std ", c.embedding_std, ", initial gain ", c.beta());
}

/// Returns where all ranks of the world have the same terms; else ends the run with one sentence, about the first that differs.
inline void agree(World& world, const RunTerms& terms) {
  world.agree("golem's version", terms.version);
  world.agree("the model", terms.model);
  world.agree("the precision", terms.precision);
  world.agree("the layout", terms.layout);
  world.agree(terms.options_name, terms.options);
}

}  // namespace golem
