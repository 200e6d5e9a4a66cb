// Where GLM-130B's programs get weights from: the one place that knows the formats.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "golem/config/describe.hpp"
#include "golem/core/stateful.hpp"
#include "golem/io/open_weights.hpp"

namespace examples {

/// The weights of model M at `path`, for rank `rank` of `tp`: a released checkpoint, plain or quantised for as many ranks; a golem checkpoint, or a
/// run's folder with one, by however many ranks it was saved. Throws Error where they are of another model.
template <class M>
std::unique_ptr<golem::TensorSource> open_weights(const std::string& path, int tp, int rank) {
  return golem::open_weights(path, M::config, tp, rank, {.model = golem::describe(M::config)});
}

}  // namespace examples
