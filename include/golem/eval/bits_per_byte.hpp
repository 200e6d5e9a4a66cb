// Bits per byte of held-out text: every token scored once, in windows of the model's context (spec 7.5).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "golem/config/special_tokens.hpp"
#include "golem/core/batch.hpp"
#include "golem/core/error.hpp"
#include "golem/core/function_ref.hpp"

namespace golem {

/// Bits of a text, and the bytes that it has.
struct BitsPerByte {
  double bits = 0;
  std::int64_t bytes = 0, tokens = 0;
  double value() const { return bytes ? bits / static_cast<double>(bytes) : 0; }
};

/// One window as a batch of one row: a bidirectional prompt and [gMASK], then sop and all but the last of the scored
/// tokens; plain positions. `prompt` tokens come before the `scored` ones in `text` and are not scored. Throws Error where none is.
inline void make_window(Batch& batch, std::span<const std::int32_t> prompt, std::span<const std::int32_t> scored, const SpecialTokens& special) {
  require(!scored.empty(), "a window with no token to score behind a prompt of ", prompt.size(), " was asked for: give it at least one");
  batch.rows = 1;
  batch.tokens.assign(prompt.begin(), prompt.end());
  batch.tokens.push_back(special.gmask);
  batch.tokens.push_back(special.sop);
  batch.tokens.insert(batch.tokens.end(), scored.begin(), scored.end() - 1);
  batch.length = static_cast<int>(batch.tokens.size());
  batch.positions.resize(batch.tokens.size());
  for (std::size_t i = 0; i < batch.positions.size(); ++i) batch.positions[i] = static_cast<std::int32_t>(i);
  batch.targets.assign(prompt.size() + 1, -1);
  batch.targets.insert(batch.targets.end(), scored.begin(), scored.end());
  batch.windows.assign(1, {.begin = 0, .end = batch.length, .prefix = static_cast<std::int32_t>(prompt.size()) + 1});
  batch.first_window.assign({0, 1});
  batch.tasks.assign(1, Task::generation);
}

/// Scores all tokens of one document in windows of `context` tokens: the first has no prompt, and each later one scores
/// the next `stride` tokens behind a prompt of as many as fit. `nats(batch)` returns the sum over scored tokens of their
/// losses. `bytes` is the length of the document's text in UTF-8.
inline BitsPerByte bits_per_byte(std::span<const std::int32_t> document, std::int64_t bytes, int context, int stride, const SpecialTokens& special,
                                 function_ref<double(const Batch&)> nats) {
  require(context >= 4 && stride >= 1 && stride <= context - 2, "windows of ", context, " tokens cannot advance by ", stride, ": the stride must be 1 to context - 2");
  BitsPerByte result{.bits = 0, .bytes = bytes, .tokens = static_cast<std::int64_t>(document.size())};
  Batch batch;
  const std::size_t first = std::min<std::size_t>(document.size(), static_cast<std::size_t>(context) - 1);
  for (std::size_t done = 0; done < document.size();) {
    const std::size_t count = done == 0 ? first : std::min<std::size_t>(static_cast<std::size_t>(stride), document.size() - done);
    const std::size_t prompt = done == 0 ? 0 : std::min<std::size_t>(done, static_cast<std::size_t>(context - 1 - stride));
    make_window(batch, document.subspan(done - prompt, prompt), document.subspan(done, count), special);
    result.bits += nats(batch) / std::log(2.0);
    done += count;
  }
  return result;
}

}  // namespace golem
