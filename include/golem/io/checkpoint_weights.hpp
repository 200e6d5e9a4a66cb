// CheckpointWeights: the tensors of a checkpoint in whatever floating type their reader wants.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "golem/core/error.hpp"
#include "golem/core/number.hpp"
#include "golem/core/stateful.hpp"
#include "golem/io/checkpoint_reader.hpp"

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
    if (found && floating(found->type) && floating(wanted.type)) stored.type = found->type;
    stored.bytes = wanted.bytes / static_cast<std::size_t>(size_of(wanted.type)) * static_cast<std::size_t>(size_of(stored.type));
    reader_.check(stored);
    if (stored.type == wanted.type) return reader_.copy(wanted);
    switch (wanted.type) {
      case DType::f64: return convert_to<double>(stored);
      case DType::f32: return convert_to<float>(stored);
      case DType::f16: return convert_to<float16>(stored);
      case DType::bf16: return convert_to<bfloat16>(stored);
      default: fail("tensor '", wanted.name, "' cannot be read as ", name_of(wanted.type));
    }
  }

 private:
  static LoadOptions model_part(LoadOptions options) {
    options.part = CheckpointPart::model;
    return options;
  }
  static bool floating(DType type) { return type == DType::f64 || type == DType::f32 || type == DType::f16 || type == DType::bf16; }

  template <class To>
  void convert_to(const TensorState& stored) const {
    switch (stored.type) {
      case DType::f64: return convert<To, double>(stored);
      case DType::f32: return convert<To, float>(stored);
      case DType::f16: return convert<To, float16>(stored);
      default: return convert<To, bfloat16>(stored);
    }
  }
  template <class To, class From>
  void convert(const TensorState& stored) const {
    auto* const to = static_cast<To*>(stored.data);
    reader_.for_each_piece(stored, [&](const std::byte* from, std::int64_t at, std::int64_t count) {
      for (std::int64_t i = 0; i < count; ++i) {
        From value;
        std::memcpy(&value, from + i * static_cast<std::int64_t>(sizeof(From)), sizeof(From));
        to[at + i] = static_cast<To>(static_cast<double>(value));
      }
    });
  }

  CheckpointReader reader_;
};

/// Reads an engine's weights from the checkpoint at `path`, or the latest of the run's folder `path`: plain ones as they
/// are, or quantised on the way where the engine wants that; quantised ones as they are stored.
template <class EngineType>
void load(EngineType& engine, const std::string& path, const LoadOptions& options = {}) {
  engine.load_weights(CheckpointWeights(path, options));
}

}  // namespace golem
