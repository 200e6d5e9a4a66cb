// Sample: one row of training data, before it goes into a batch: tokens, labels, positions, windows.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "golem/core/batch.hpp"

namespace golem {

/// All lists but `windows` have an entry for each token; labels count where `scored` is 1.
struct Sample {
  Task task = Task::blank;
  std::vector<std::int32_t> tokens, labels, positions;
  std::vector<std::uint8_t> scored;
  std::vector<Window> windows;

  std::size_t size() const { return tokens.size(); }
  void clear() { tokens.clear(), labels.clear(), positions.clear(), scored.clear(), windows.clear(); }

  /// Appends a token that is only read.
  void read(std::int32_t token, std::int32_t position) { append(token, token, position, 0); }
  /// Appends a token behind which `label` is to be predicted.
  void predict(std::int32_t token, std::int32_t label, std::int32_t position) { append(token, label, position, 1); }

  /// Makes the sample `length` tokens long: cuts it, or appends `pad` at `position`, `position + step`, ...
  void fit(std::size_t length, std::int32_t pad, std::int32_t position, std::int32_t step) {
    for (; size() < length; position += step) read(pad, position);
    tokens.resize(length), labels.resize(length), positions.resize(length), scored.resize(length);
  }

 private:
  void append(std::int32_t token, std::int32_t label, std::int32_t position, std::uint8_t is_scored) {
    tokens.push_back(token), labels.push_back(label), positions.push_back(position), scored.push_back(is_scored);
  }
};

}  // namespace golem
