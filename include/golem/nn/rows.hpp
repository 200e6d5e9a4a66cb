// A batch on a device, and what goes with it to every layer: positions, windows, rotary tables.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/config/model.hpp"
#include "golem/core/batch.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/op_arguments.hpp"

namespace golem {

/// What the layers of a forward or backward pass read of the batch. A is the accumulation type.
template <class A>
struct Rows {
  int rows = 0, length = 0;                 // B, T
  View<const std::int32_t, 1> tokens;       // (N)
  View<const std::int32_t, 1> positions;    // (N)
  WindowList windows;
  View<const A, 2> cos, sin;                // (context, D/2)
  double dropout = 0;                       // 0 outside training
  std::uint64_t seed = 0;                   // of dropout
  std::int64_t first_sample = 0;            // number of row 0 in the run: what is dropped depends on it, and on no layout

  std::int64_t count() const { return std::int64_t{rows} * length; }  // N
  /// Rows that attention takes in one call: all, or one by one where each draws its own dropout.
  int group() const { return dropout > 0 ? 1 : rows; }
  WindowList windows_of(int row) const { return {windows.all, {windows.first.data + row, group() + 1}}; }
};

/// Device copies of a batch's integers. Buffers grow to the largest batch seen.
template <class D>
class RowsOnDevice {
 public:
  /// Makes room for n tokens, so that batches up to that find their memory where it is.
  void reserve(D& device, std::int64_t n) {
    for (Buffer<std::int32_t, D>* buffer : {&tokens_, &positions_})
      if (buffer->size() < n) *buffer = Buffer<std::int32_t, D>(device, n, "batch");
  }

  /// Copies `batch`, with each window's prefix as the model's mask wants it. Throws Error where a token is none of its vocabulary, a
  /// position is beyond its context, or a window beyond its row: kernels would read what is not theirs.
  void upload(D& device, const Batch& batch, const ModelConfig& c) {
    require(batch.rows > 0 && batch.length > 0, "a batch of ", batch.rows, " rows of ", batch.length, " tokens has nothing to compute");
    const auto n = static_cast<std::size_t>(batch.rows) * static_cast<std::size_t>(batch.length);
    require(batch.tokens.size() == n && batch.positions.size() == n && batch.first_window.size() == static_cast<std::size_t>(batch.rows) + 1,
            "a batch of ", batch.rows, " x ", batch.length, " tokens came with ", batch.tokens.size(), " tokens, ", batch.positions.size(), " positions and ",
            batch.first_window.size(), " window offsets");
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t row = i / static_cast<std::size_t>(batch.length);
      require(batch.tokens[i] >= 0 && batch.tokens[i] < c.vocab, "row ", row, " has token ", batch.tokens[i], ", and the model's vocabulary ends at ", c.vocab - 1,
              ": the data were made with another tokenizer");
      require(batch.positions[i] >= 0 && batch.positions[i] < c.context, "row ", row, " has position ", batch.positions[i], ", and the model's context ends at ", c.context - 1,
              ": the data were made for a longer one");
    }
    check_windows(batch);
    windows_host_ = batch.windows;
    for (Window& window : windows_host_) {
      if (c.mask == Mask::causal) window.prefix = 0;
      if (c.mask == Mask::bidirectional) window.prefix = window.end - window.begin;
    }
    put(device, tokens_, batch.tokens.data(), n);
    put(device, positions_, batch.positions.data(), n);
    put(device, windows_, windows_host_.data(), windows_host_.size());
    put(device, first_window_, batch.first_window.data(), batch.first_window.size());
    rows_ = batch.rows, length_ = batch.length, window_count_ = static_cast<std::int64_t>(windows_host_.size());
  }

  template <class A>
  Rows<A> rows(View<const A, 2> cos, View<const A, 2> sin) const {
    const std::int64_t n = std::int64_t{rows_} * length_;
    return {.rows = rows_,
            .length = length_,
            .tokens = {tokens_.data(), n},
            .positions = {positions_.data(), n},
            .windows = {{windows_.data(), window_count_}, {first_window_.data(), rows_ + 1}},
            .cos = cos,
            .sin = sin};
  }

 private:
  static void check_windows(const Batch& batch) {
    for (int row = 0; row < batch.rows; ++row) {
      const std::int32_t first = batch.first_window[static_cast<std::size_t>(row)], last = batch.first_window[static_cast<std::size_t>(row) + 1];
      require(first >= 0 && first <= last && static_cast<std::size_t>(last) <= batch.windows.size(), "row ", row, " was given windows ", first, " to ", last, " of ", batch.windows.size(),
              ": Batch::first_window ascends, from 0 to as many as there are");
      std::int32_t free = 0;  // the first token that a window may have
      for (std::int32_t w = first; w < last; ++w) {
        const Window& window = batch.windows[static_cast<std::size_t>(w)];
        require(window.begin >= free && window.begin <= window.end && window.end <= batch.length, "row ", row, " of ", batch.length, " tokens has a window of tokens ", window.begin, " to ",
                window.end, " behind one that ends at ", free, ": windows ascend, do not overlap, and end with their row");
        require(window.prefix >= 0 && window.prefix <= window.end - window.begin, "row ", row, " has a prefix of ", window.prefix, " tokens in a window of tokens ", window.begin, " to ",
                window.end, ": a prefix lies inside its window");
        require(window.context_begin >= 0 && window.context_begin <= window.context_end && window.context_end <= window.begin, "a window of tokens ", window.begin, " to ", window.end,
                " was given tokens ", window.context_begin, " to ", window.context_end, " as its context: a context lies before its window");
        free = window.end;
      }
    }
  }

  template <class E>
  static void put(D& device, Buffer<E, D>& buffer, const E* data, std::size_t count) {
    if (buffer.size() < static_cast<std::int64_t>(count)) buffer = Buffer<E, D>(device, static_cast<std::int64_t>(count), "batch");
    if (count) device.copy_in(buffer.data(), data, count * sizeof(E));
  }

  Buffer<std::int32_t, D> tokens_, positions_, first_window_;
  Buffer<Window, D> windows_;
  std::vector<Window> windows_host_;
  int rows_ = 0, length_ = 0;
  std::int64_t window_count_ = 0;
};

}  // namespace golem
