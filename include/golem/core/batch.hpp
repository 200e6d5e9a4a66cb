// Batch: rows of tokens with positions, targets and attention windows; all that a model needs to know of its data.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "golem/core/error.hpp"

namespace golem {

/// A range of tokens of one row. Inside it token i sees token j where j <= i or j < begin + prefix (spec 2.3, 2.5), and before it
/// the tokens [context_begin, context_end), if any: so the choices of a packed row share a text (spec 7.2). Windows of a row are
/// ascending and do not overlap.
struct Window {
  std::int32_t begin = 0, end = 0, prefix = 0;
  std::int32_t context_begin = 0, context_end = 0;
  friend bool operator==(const Window&, const Window&) = default;
};

/// What a row is a sample of; each has a loss of its own in the reports.
enum class Task : std::uint8_t { blank, generation, instruction };  // [MASK], [gMASK], instructions
inline constexpr int task_count = 3;

/// `rows` x `length` tokens. `targets[i] < 0` where token i is not scored. Row r owns windows [first_window[r], first_window[r+1]).
struct Batch {
  int rows = 0, length = 0;              // B, T
  std::vector<std::int32_t> tokens = {};      // (B, T)
  std::vector<std::int32_t> positions = {};   // (B, T), rows of the RoPE table
  std::vector<std::int32_t> targets = {};     // (B, T), -1: not scored
  std::vector<Window> windows = {};
  std::vector<std::int32_t> first_window = {};  // (B + 1)
  std::vector<Task> tasks = {};                 // (B)
};

/// Throws Error where a list of the batch is not as long as its shape says.
inline void require_shape(const Batch& batch) {
  const auto rows = static_cast<std::size_t>(batch.rows), tokens = rows * static_cast<std::size_t>(batch.length);
  require(batch.rows > 0 && batch.length > 0, "a batch of ", batch.rows, " rows of ", batch.length, " tokens has nothing to compute");
  require(batch.tokens.size() == tokens && batch.positions.size() == tokens && batch.targets.size() == tokens && batch.first_window.size() == rows + 1 && batch.tasks.size() == rows, "a batch of ",
          batch.rows, " x ", batch.length, " tokens came with ", batch.tokens.size(), " tokens, ", batch.positions.size(), " positions, ", batch.targets.size(), " targets, ",
          batch.first_window.size(), " window offsets and ", batch.tasks.size(), " tasks");
}

/// The batch with rows as long as the next multiple of `multiple` tokens: what is added is in no window and is not scored.
/// Throws Error where one of its lists is not as long as its shape says.
inline Batch padded(Batch batch, int multiple) {
  require_shape(batch);
  const int length = (batch.length + multiple - 1) / multiple * multiple;
  if (length == batch.length) return batch;
  Batch out{.rows = batch.rows, .length = length, .windows = batch.windows, .first_window = batch.first_window, .tasks = batch.tasks};
  const auto pad = [&](const std::vector<std::int32_t>& from, std::vector<std::int32_t>& to, std::int32_t value) {
    for (int r = 0; r < batch.rows; ++r) {
      to.insert(to.end(), from.begin() + r * batch.length, from.begin() + (r + 1) * batch.length);
      to.insert(to.end(), static_cast<std::size_t>(length - batch.length), value);
    }
  };
  pad(batch.tokens, out.tokens, 0), pad(batch.positions, out.positions, 0), pad(batch.targets, out.targets, -1);
  return out;
}

}  // namespace golem
