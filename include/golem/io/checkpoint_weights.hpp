// CheckpointWeights: the tensors of a checkpoint in whatever floating type their reader wants.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "golem/core/error.hpp"
#include "golem/core/number.hpp"
#include "golem/core/stateful.hpp"
#include "golem/io/checkpoint_reader.hpp"
#include "golem/io/element_conversion.hpp"

namespace golem {

/// A TensorSource over a checkpoint's model files.
class CheckpointWeights : public TensorSource {
 public:
  /// Opens the checkpoint at `path`, or the latest of the run's folder `path`. Throws Error as CheckpointReader does.
  explicit CheckpointWeights(const std::string& path, LoadOptions options = {}) : reader_(path, model_part(std::move(options))) {}

  const CheckpointReader& reader() const { return reader_; }
  bool has(const std::string& name) const override { return reader_.find(name) != nullptr; }

  /// Floating types are converted, rounding once; integers must be of the type wanted.
  void read(const TensorState& wanted) const override {
    const StoredTensor* found = reader_.find(wanted.name);
    TensorState stored = wanted;
    if (found && is_floating(found->type) && is_floating(wanted.type)) stored.type = found->type;
    stored.bytes = wanted.bytes / static_cast<std::size_t>(size_of(wanted.type)) * static_cast<std::size_t>(size_of(stored.type));
    reader_.check(stored);
    reader_.for_each_piece(stored, [&](const std::byte* from, std::int64_t at, std::int64_t count) {
      convert_elements(static_cast<std::byte*>(wanted.data) + at * size_of(wanted.type), wanted.type, from, stored.type, count, wanted.name);
    });
    reader_.release(stored);
  }

 private:
  static LoadOptions model_part(LoadOptions options) {
    options.part = CheckpointPart::model;
    return options;
  }
  CheckpointReader reader_;
};

/// Reads an engine's weights from the checkpoint at `path`, or the latest of the run's folder `path`: plain ones as they
/// are, or quantised on the way where the engine wants that; quantised ones as they are stored. Returns the step that they are of.
template <class EngineType>
std::int64_t load(EngineType& engine, const std::string& path, const LoadOptions& options = {}) {
  const CheckpointWeights weights(path, options);
  engine.load_weights(weights);
  return weights.reader().state().step;
}

}  // namespace golem
