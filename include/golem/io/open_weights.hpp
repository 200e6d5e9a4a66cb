// Opens the weights of a model, for an engine's rank, from whichever kind of checkpoint lies at a path.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "golem/config/describe.hpp"
#include "golem/config/model.hpp"
#include "golem/core/error.hpp"
#include "golem/core/stateful.hpp"
#include "golem/io/checkpoint_doctor.hpp"
#include "golem/io/checkpoint_weights.hpp"
#include "golem/io/sat_weights.hpp"

namespace golem {

namespace sat {

/// SatWeights with the files that they lie in.
class OwnedWeights : public TensorSource {
 public:
  OwnedWeights(const std::string& path, const ModelConfig& model, int tp, int rank, SatOptions options)
      : checkpoint_(path), weights_(checkpoint_, proved(checkpoint_, model), tp, rank, options) {}
  bool has(const std::string& name) const override { return weights_.has(name); }
  void read(const TensorState& tensor) const override { weights_.read(tensor); }

 private:
  static SatModel proved(const SatCheckpoint& checkpoint, const ModelConfig& model) {
    const SatModel found = sat_model(checkpoint, model.heads);
    require_model(found.config, model, sentence("'", checkpoint.folder(), "'"));
    return found;
  }

  SatCheckpoint checkpoint_;
  SatWeights weights_;
};

}  // namespace sat

/// A released checkpoint (io/sat_checkpoint.hpp), or one of golem's own, as a source for rank `rank` of `tp`:
///   engine.load_weights(*golem::open_weights(path, M::config, layout.tp, rank));
/// Throws Error where neither lies there, it is of another model, or was quantised for another number of ranks. Where `options` names no
/// text, one of golem's own must say of itself what describe(model) says, or nothing; then its shapes are compared, as those of a released one are.
/// Without `options.digests` neither digests nor a released checkpoint's CRCs are compared.
inline std::unique_ptr<TensorSource> open_weights(const std::string& path, const ModelConfig& model, int tp = 1, int rank = 0,
                                                  const LoadOptions& options = {}) {
  if (is_sat_checkpoint(path)) return std::make_unique<sat::OwnedWeights>(path, model, tp, rank, SatOptions{.sums = options.digests});
  const bool says = !checkpoint::read_state(find_checkpoint(path)).model.empty();
  LoadOptions own = options;
  if (own.model.empty() && says) own.model = describe(model);
  auto weights = std::make_unique<CheckpointWeights>(path, own);
  if (!says) require_model(checkpoint_model(weights->reader(), model.heads), model, sentence("'", weights->reader().folder(), "'"));
  return weights;
}

}  // namespace golem
