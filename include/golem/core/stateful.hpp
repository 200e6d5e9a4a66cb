// Stateful: what can be saved and resumed. One visit both writes and reads, so the two cannot drift apart.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "golem/core/number.hpp"
#include "golem/core/slice.hpp"

namespace golem {

/// A tensor in host memory, under its name in files.
struct TensorState {
  std::string name;
  DType type = DType::f32;
  std::vector<std::int64_t> shape;  // of the full tensor
  void* data = nullptr;
  std::size_t bytes = 0;               // in memory here
  std::optional<Slice> slice = {};     // which part is here; none: all of it
  bool owned = true;                   // whether this rank saves it; of ranks that hold the same, one does
};

/// Walks a state. A saver reads through the references, a loader writes through them.
class StateVisitor {
 public:
  virtual ~StateVisitor() = default;
  virtual void integer(std::string_view name, std::int64_t& value) = 0;
  virtual void real(std::string_view name, double& value) = 0;
  virtual void text(std::string_view name, std::string& value) = 0;
  virtual void tensor(const TensorState& tensor) = 0;
  /// Whether values are being written into the state; what is derived from them is then rebuilt after the visit.
  virtual bool loading() const = 0;
};

/// Weights by name, to be read into memory of the reader's type and shape.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual bool has(const std::string& name) const = 0;
  /// Fills tensor.data with the elements of tensor.slice (all, where there is none), converting between floating types. Throws
  /// Error where the tensor is missing or has another shape.
  virtual void read(const TensorState& tensor) const = 0;
};

template <class S>
concept Stateful = requires(S& state, StateVisitor& visitor) { state.visit_state(visitor); };

}  // namespace golem
