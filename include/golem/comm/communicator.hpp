// What layers ask of a group of ranks, and Self, the group of one.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>

#include "golem/core/tensor.hpp"

namespace golem {

enum class Reduce : unsigned char { sum, max };

/// A group of ranks that hold pieces of the same thing.
template <class C>
concept Communicator = requires(C& ranks, View<float, 1> values, Reduce how) {
  { ranks.rank() } -> std::convertible_to<int>;
  { ranks.size() } -> std::convertible_to<int>;
  ranks.all_reduce(values, how);
};

/// A world of one rank: every collective is the identity, and compiles to nothing.
struct Self {
  static constexpr int rank() { return 0; }
  static constexpr int size() { return 1; }
  template <class T>
  void all_reduce(View<T, 1>, Reduce) {}
};

static_assert(Communicator<Self>);

}  // namespace golem
