// MemoryAccount: who holds how many bytes of a device.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "golem/core/error.hpp"

namespace golem {

/// Bytes that Buffers hold, in all and by label ("parameters", "moments", ...). Safe to use from several threads.
class MemoryAccount {
 public:
  void add(std::string_view label, std::int64_t bytes) {
    const std::lock_guard lock(mutex_);
    current_ += bytes;
    if (bytes > 0) ++allocations_;
    if (current_ > peak_) peak_ = current_;
    for (Holder& holder : holders_)
      if (holder.label == label) return void(holder.bytes += bytes);
    holders_.push_back({std::string(label), bytes});
  }
  std::int64_t current() const { return locked(current_); }
  std::int64_t peak() const { return locked(peak_); }
  /// How often memory was taken.
  std::int64_t allocations() const { return locked(allocations_); }
  std::int64_t of(std::string_view label) const {
    const std::lock_guard lock(mutex_);
    for (const Holder& holder : holders_)
      if (holder.label == label) return holder.bytes;
    return 0;
  }
  /// "parameters 12 MiB, moments 24 MiB": for the error that says memory ran out.
  std::string summary() const {
    const std::lock_guard lock(mutex_);
    std::string out;
    for (const Holder& holder : holders_)
      if (holder.bytes) out += sentence(out.empty() ? "" : ", ", holder.label, " ", holder.bytes >> 20, " MiB");
    return out.empty() ? "nothing" : out;
  }

 private:
  struct Holder {
    std::string label;
    std::int64_t bytes;
  };
  std::int64_t locked(const std::int64_t& number) const {
    const std::lock_guard lock(mutex_);
    return number;
  }

  mutable std::mutex mutex_;
  std::int64_t current_ = 0, peak_ = 0, allocations_ = 0;
  std::vector<Holder> holders_;  // a few, in the order in which they came
};

}  // namespace golem
