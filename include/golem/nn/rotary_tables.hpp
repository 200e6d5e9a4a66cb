// The rotary tables of a model, on a device.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "golem/config/rope.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/device.hpp"

namespace golem {

template <Model M, class A, Device D>
class RotaryTables {
 public:
  explicit RotaryTables(D& device) {
    std::vector<A> cos(count), sin(count);
    rope_tables(M::config, View<A, 2>{cos.data(), M::config.context, half}, View<A, 2>{sin.data(), M::config.context, half});
    tables_ = Buffer<A, D>(device, 2 * static_cast<std::int64_t>(count), "weights");
    device.copy_in(tables_.data(), cos.data(), count * sizeof(A));
    device.copy_in(tables_.data() + count, sin.data(), count * sizeof(A));
  }
  View<const A, 2> cos() const { return {tables_.data(), M::config.context, half}; }
  View<const A, 2> sin() const { return {tables_.data() + count, M::config.context, half}; }

 private:
  static constexpr int half = M::config.head_dim() / 2;
  static constexpr std::size_t count = static_cast<std::size_t>(M::config.context) * half;
  Buffer<A, D> tables_;
};

}  // namespace golem
