// Where GLM-130B's programs get weights from: released checkpoints and golem's own. The one place that knows the formats.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "golem/config/describe.hpp"
#include "golem/core/stateful.hpp"
#include "golem/io/checkpoint_weights.hpp"
#include "golem/io/sat_weights.hpp"

namespace examples {

/// A source of weights, with the files that it reads.
struct OpenedWeights {
  std::unique_ptr<golem::SatCheckpoint> sat;
  std::unique_ptr<golem::TensorSource> source;
};

/// The weights of model M at `path` for rank `rank` of `tp`, in `bits` (0: not quantised): a released checkpoint of any degree, or of
/// this one where it is quantised; or a golem checkpoint, or a run's folder with one, by however many ranks it was saved. Throws Error
/// where they are of another model, or stored in other bits.
template <class M>
OpenedWeights open_weights(const std::string& path, int bits, int tp, int rank) {
  OpenedWeights opened;
  if (!golem::is_sat_checkpoint(path)) {
    opened.source = std::make_unique<golem::CheckpointWeights>(path, golem::LoadOptions{.model = golem::describe(M::config)});
    return opened;
  }
  opened.sat = std::make_unique<golem::SatCheckpoint>(path);
  const golem::SatModel found = golem::sat_model(*opened.sat, M::config.heads);
  const golem::ModelConfig &c = M::config, &f = found.config;
  golem::require(c.layers == f.layers && c.hidden == f.hidden && c.ffn == f.ffn && c.vocab == f.vocab, "'", opened.sat->folder(), "' has ", f.layers, " layers, hidden ", f.hidden, ", ffn ", f.ffn, ", vocabulary ",
                 f.vocab, ", and this model ", c.layers, ", ", c.hidden, ", ", c.ffn, ", ", c.vocab, ": it is of another model");
  golem::require(found.bits == 0 || found.bits == bits, "'", opened.sat->folder(), "' is stored in ", found.bits, " bits: give --precision int", found.bits);
  opened.source = std::make_unique<golem::SatWeights>(*opened.sat, golem::SatModel{c, found.bits}, tp, rank);
  return opened;
}

}  // namespace examples
