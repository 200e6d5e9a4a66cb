// Where ranks that are threads meet: a gate that opens when all have come, and channels on which messages find each other.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>

#include "golem/comm/backend.hpp"

namespace golem {

/// Opens when `size` threads have come; again and again. Waiting spins for a moment, then sleeps.
class Gate {
 public:
  explicit Gate(int size) : size_(size) {}

  /// Returns true when all have come; false, to all that are in here and to all that come later, once it is closed for ever.
  bool pass() {
    const std::uint32_t before = word_.load(std::memory_order_acquire);
    if (before & closed) return false;
    if (came_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
      came_.store(0, std::memory_order_relaxed);
      std::uint32_t expected = before;
      if (!word_.compare_exchange_strong(expected, before + round, std::memory_order_acq_rel)) return false;
      word_.notify_all();
      return true;
    }
    std::uint32_t now = before;
    while ((now = word_.load(std::memory_order_acquire)) == before) word_.wait(before, std::memory_order_acquire);
    return (now & ~closed) != before;  // a gate that opened before it was closed has opened for all
  }
  void close() {
    word_.fetch_or(closed, std::memory_order_acq_rel);
    word_.notify_all();
  }

 private:
  static constexpr std::uint32_t closed = 1, round = 2;
  const int size_;
  std::atomic<std::int32_t> came_{0};
  std::atomic<std::uint32_t> word_{0};  // the number of rounds, times 2, + 1 once closed
};

/// A send or a receive that was started.
struct Message {
  enum State : std::uint32_t { posted, done, differs, dropped };

  Transfer transfer;
  Transfer met;  // what the other side asked for, where the two differ
  std::atomic<std::uint32_t> state{posted};

  explicit Message(const Transfer& transfer) : transfer(transfer) {}
  /// Waits for what became of it.
  State outcome() const {
    for (std::uint32_t now; (now = state.load(std::memory_order_acquire)) != done;) {
      if (now >= differs) return static_cast<State>(now);
      state.wait(now, std::memory_order_acquire);
    }
    return done;
  }
  void become(State next) {
    state.store(next, std::memory_order_release);
    state.notify_all();
  }
};

/// The messages from one rank to another, in order. Whoever comes second copies, from the sender's memory to the receiver's.
class Channel {
 public:
  /// Starts a message. Returns the bytes that were copied in here, by this thread.
  std::int64_t post(const std::shared_ptr<Message>& message) {
    const bool sends = message->transfer.kind == Transfer::Kind::send;
    std::shared_ptr<Message> other;
    {
      const std::lock_guard lock(mutex_);
      if (closed_) {
        message->become(Message::dropped);
        return 0;
      }
      auto& waiting = sends ? receives_ : sends_;
      if (waiting.empty()) {
        (sends ? sends_ : receives_).push_back(message);
        return 0;
      }
      other = std::move(waiting.front());
      waiting.pop_front();
    }
    const Transfer& from = sends ? message->transfer : other->transfer;
    const Transfer& to = sends ? other->transfer : message->transfer;
    if (from.count != to.count || from.type != to.type) {
      message->met = other->transfer, other->met = message->transfer;
      other->become(Message::differs), message->become(Message::differs);
      return 0;
    }
    const std::int64_t bytes = from.count * size_of(from.type);
    if (bytes > 0) std::memcpy(to.out, from.in, static_cast<std::size_t>(bytes));
    other->become(Message::done), message->become(Message::done);
    return bytes;
  }

  /// Drops all messages that have not met, and all that come later.
  void close() {
    std::deque<std::shared_ptr<Message>> left;
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
      left.swap(sends_);
      if (left.empty()) left.swap(receives_);
    }
    for (const auto& message : left) message->become(Message::dropped);
  }

 private:
  std::mutex mutex_;
  bool closed_ = false;
  std::deque<std::shared_ptr<Message>> sends_, receives_;  // one of them is empty
};

}  // namespace golem
