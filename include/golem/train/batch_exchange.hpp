// BatchExchange: one rank of those that share a model reads the step's batches, and all of them get their integers.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "golem/comm/group.hpp"
#include "golem/core/batch.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/device.hpp"

namespace golem {

/// Tokens, positions, targets, windows: a few integers a token, never a mask as a matrix (spec 4.1).
template <Device D>
class BatchExchange {
 public:
  BatchExchange(D& device, const Group& model) : device_(&device), model_(model) {}

  /// Whether this rank is the one that reads.
  bool reads() const { return model_.rank() == 0; }

  /// The batches of rank 0 of the group, on every rank.
  void share(std::vector<Batch>& batches) {
    if (model_.size() == 1) return;
    message_.clear();
    if (reads()) pack(batches);
    auto length = static_cast<std::int64_t>(message_.size());
    exchange(length_, &length, 1);
    message_.resize(static_cast<std::size_t>(length));
    exchange(integers_, message_.data(), length);
    if (!reads()) unpack(batches);
  }

 private:
  template <class E>
  void exchange(Buffer<E, D>& buffer, E* values, std::int64_t count) {
    if (buffer.size() < count) buffer = Buffer<E, D>(*device_, count, "batch");
    if (reads()) device_->copy_in(buffer.data(), values, static_cast<std::size_t>(count) * sizeof(E));
    model_.broadcast(View<E, 1>{buffer.data(), count}, 0);
    device_->copy_out(values, buffer.data(), static_cast<std::size_t>(count) * sizeof(E));
  }

  void pack(const std::vector<Batch>& batches) {
    message_.push_back(static_cast<std::int32_t>(batches.size()));
    for (const Batch& b : batches) {
      require_shape(b);
      message_.insert(message_.end(), {b.rows, b.length, static_cast<std::int32_t>(b.windows.size())});
      for (const auto* list : {&b.tokens, &b.positions, &b.targets, &b.first_window}) message_.insert(message_.end(), list->begin(), list->end());
      for (const Window& window : b.windows) message_.insert(message_.end(), {window.begin, window.end, window.prefix, window.context_begin, window.context_end});
      for (const Task task : b.tasks) message_.push_back(static_cast<std::int32_t>(task));
    }
  }
  void unpack(std::vector<Batch>& batches) {
    const std::int32_t* next = message_.data();
    batches.assign(static_cast<std::size_t>(*next++), {});
    for (Batch& b : batches) {
      b.rows = *next++, b.length = *next++;
      b.windows.resize(static_cast<std::size_t>(*next++));
      const auto tokens = static_cast<std::size_t>(b.rows) * static_cast<std::size_t>(b.length), rows = static_cast<std::size_t>(b.rows);
      const auto take = [&](std::vector<std::int32_t>& list, std::size_t count) { list.assign(next, next + count), next += count; };
      take(b.tokens, tokens), take(b.positions, tokens), take(b.targets, tokens), take(b.first_window, rows + 1);
      for (Window& window : b.windows) window = {next[0], next[1], next[2], next[3], next[4]}, next += 5;
      for (std::size_t r = 0; r < rows; ++r) b.tasks.push_back(static_cast<Task>(*next++));
    }
  }

  D* device_;
  Group model_;
  std::vector<std::int32_t> message_;
  Buffer<std::int64_t, D> length_;
  Buffer<std::int32_t, D> integers_;
};

}  // namespace golem
