// TransferQueue: transfers that one thread of its own runs one after the other, so that they overlap what the starter computes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "golem/comm/backend.hpp"
#include "golem/comm/watch.hpp"
#include "golem/core/function_ref.hpp"

namespace golem {

/// A transfer in a queue.
class QueuedTransfer {
 public:
  explicit QueuedTransfer(const Transfer& transfer) : transfer_(transfer) {}

  /// Waits until it has run; throws what it threw.
  void wait() {
    outcome();
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }
  /// Waits until it has run, or failed.
  void outcome() const { done_.wait(0, std::memory_order_acquire); }
  bool done() const { return done_.load(std::memory_order_acquire) != 0; }
  /// How long it ran, once it has.
  double seconds() const { return seconds_; }

  /// By the thread of the queue only.
  void run(function_ref<void(const Transfer&)> transfer) {
    const double start = steady_seconds();
    try {
      transfer(transfer_);
    } catch (...) {
      error_ = std::current_exception();
    }
    seconds_ = steady_seconds() - start;
    done_.store(1, std::memory_order_release);
    done_.notify_all();
  }

 private:
  Transfer transfer_;
  std::exception_ptr error_;
  double seconds_ = 0;
  std::atomic<std::uint32_t> done_{0};
};

/// Runs transfers first in, first out. The thread is made with the first of them.
class TransferQueue {
 public:
  /// `run` must outlive the queue.
  explicit TransferQueue(function_ref<void(const Transfer&)> run) : run_(run) {}
  /// Runs what is left, then ends the thread.
  ~TransferQueue() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_one();
    if (thread_.joinable()) thread_.join();
  }
  TransferQueue(const TransferQueue&) = delete;
  TransferQueue& operator=(const TransferQueue&) = delete;

  std::shared_ptr<QueuedTransfer> push(const Transfer& transfer) {
    auto queued = std::make_shared<QueuedTransfer>(transfer);
    last_ = queued;
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(queued);
    }
    if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
    changed_.notify_one();
    return queued;
  }
  /// Waits until all that was pushed has run.
  void drain() const {
    if (last_) last_->outcome();
  }
  /// Whether all that was pushed has run.
  bool idle() const { return !last_ || last_->done(); }

 private:
  void work() {
    for (;;) {
      std::shared_ptr<QueuedTransfer> next;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return ending_ || !queue_.empty(); });
        if (queue_.empty()) return;
        next = std::move(queue_.front());
        queue_.pop_front();
      }
      next->run(run_);
    }
  }

  function_ref<void(const Transfer&)> run_;
  std::shared_ptr<QueuedTransfer> last_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ending_ = false;
  std::deque<std::shared_ptr<QueuedTransfer>> queue_;
  std::thread thread_;
};

}  // namespace golem
