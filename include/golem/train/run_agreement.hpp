// What all ranks of a training run must have in common.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "golem/comm/run_terms.hpp"
#include "golem/config/precision.hpp"
#include "golem/core/number.hpp"

namespace golem {

/// The terms of a rank that trains M in precision P, with the types behind the precision's name; the seed is part of `config`.
template <Model M, TrainingPrecision P>
RunTerms terms_of(const Layout& layout, const TrainingConfig& config) {
  RunTerms out;
  out.model = terms_of(M::config);
  out.precision = sentence(P::name, " (", name_of(dtype_of<typename P::compute>()), ", master ", name_of(dtype_of<typename P::master>()), ", gradients ", name_of(dtype_of<typename P::gradient>()), ")");
  out.layout = describe(layout);
  out.options = describe(config), out.options_name = "the training configuration";
  return out;
}

}  // namespace golem
