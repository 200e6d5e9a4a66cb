// NumberCheck: for debugging, finds the first NaN or infinity of a run: in which tensor, of which layer, in which step and pass.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "golem/config/parameters.hpp"
#include "golem/nn/require_finite.hpp"
#include "golem/train/flat_state.hpp"

namespace golem {

/// What TrainingConfig::check_numbers switches on. Tensors are looked at in the order in which they are computed, so that the one that
/// is named was made of finite numbers.
template <TrainingPrecision P, Device D>
class NumberCheck {
 public:
  using T = typename P::compute;

  NumberCheck(D& device, const FlatState<P, D>& state, bool on) : device_(&device), state_(&state), on_(on) {}

  bool on() const { return on_; }

  /// The step and the pass that come next.
  void begin(std::int64_t step, std::string pass) { step_ = step, pass_ = std::move(pass); }

  /// All weights of this rank, before the passes of a step.
  void weights() const {
    for (const FlatTensor& tensor : state_->layout().tensors())
      require_finite(*device_, View<T, 1>{state_->weights().data + tensor.offset, tensor.size}, ": go back to an earlier checkpoint, with a lower learning rate", "before step ", step_, ": weight '",
                     full_name(tensor.parameter, tensor.layer), "'");
  }

  /// Something that was computed, by its name in parts.
  template <class... What>
  void tensor(View<const T, 2> values, const What&... what) const {
    require_finite(*device_, View<const T, 1>{values.data, values.size()}, remedy, "in step ", step_, ", in ", std::string_view(pass_), ": ", what...);
  }

  /// The gradients of a part of the model: of block `layer`, of the embedding (-1), or of the final norm (the number of layers).
  void gradients(int layer, int chunk) const {
    for (const FlatTensor& tensor : state_->layout().tensors()) {
      const FlatPart& part = state_->layout().parts()[static_cast<std::size_t>(tensor.part)];
      if (part.layer == layer && part.chunk == chunk) gradient(tensor);
    }
  }
  void all_gradients() const {
    for (const FlatTensor& tensor : state_->layout().tensors()) gradient(tensor);
  }

 private:
  static constexpr std::string_view remedy = ", and was made of finite numbers: lower the learning rate, or compute in a wider type";

  void gradient(const FlatTensor& tensor) const {
    require_finite(*device_, View<typename P::gradient, 1>{state_->gradients().data + tensor.offset, tensor.size}, remedy, "in step ", step_, ", in ", std::string_view(pass_), ": the gradient of '",
                   full_name(tensor.parameter, tensor.layer), "'");
  }

  D* device_;
  const FlatState<P, D>* state_;
  bool on_;
  std::int64_t step_ = 0;
  std::string pass_;
};

}  // namespace golem
