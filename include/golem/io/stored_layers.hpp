// How many blocks a checkpoint has, by the names of its tensors, whichever of them are missing.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <set>
#include <string_view>
#include <system_error>

namespace golem {

/// The blocks that have a tensor among the names added. No number in a name makes it count more than there are names.
class StoredLayers {
 public:
  /// Names as full_name() makes them count; others are not of a block.
  void add(std::string_view name) {
    constexpr std::string_view before = "transformer.layers.";
    if (!name.starts_with(before)) return;
    const char *const from = name.data() + before.size(), *const end = name.data() + name.size();
    int layer = -1;
    const auto [behind, error] = std::from_chars(from, end, layer);
    if (error == std::errc() && layer >= 0 && behind != end && *behind == '.') layers_.insert(layer);
  }
  int count() const { return static_cast<int>(layers_.size()); }

 private:
  std::set<int> layers_;
};

}  // namespace golem
