// nccl::Session: the communicators of one rank, watched by a thread that ends them all when one has lost a peer.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "golem/comm/nccl_runtime.hpp"
#include "golem/comm/watch.hpp"

namespace golem::nccl {

/// What the groups of one rank share: the stream that computes, and whether NCCL still works. A kernel of NCCL waits for ever for a
/// peer that is gone; once NCCL says so, or the ranks' own way of communicating that the run has ended, every communicator is aborted, so that
/// the host gets its stream back and meets the error. Transfers of device memory are no call that a rank waits in; where one has not ended, and
/// no other was begun for a second, the rank is noted as waiting for it.
class Session {
 public:
  /// `host` is that way; null for a rank alone.
  Session(cudaStream_t compute, std::shared_ptr<Backend> host) : compute_(compute), host_(std::move(host)), watcher_([this] { watch(); }) {}
  ~Session() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_one();
    watcher_.join();
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  cudaStream_t compute() const { return compute_; }

  /// A communicator over the ranks that are given the same id; returns when all have come.
  std::shared_ptr<Communicator> meet(const ncclUniqueId& id, int ranks, int rank, std::string_view axis) {
    require_alive();
    const std::shared_ptr<Communicator> made(new Communicator(id, ranks, rank), [this](Communicator* one) { forget(one); });
    {
      const std::lock_guard lock(mutex_);
      communicators_.push_back({made.get(), std::string(axis)});
    }
    check(made->settle(), nullptr, "let rank ", rank, " of ", ranks, " on the ", axis, " axis meet the others");
    return made;
  }

  /// Throws Error where a communicator has failed.
  void require_alive() const {
    if (!failed_.load(std::memory_order_acquire)) [[likely]] return;
    const std::lock_guard lock(mutex_);
    throw Error(why_);
  }

 private:
  struct Alive {
    Communicator* communicator;
    std::string axis;
  };

  /// Ends a communicator in the thread that drops it, unseen by the watcher.
  void forget(Communicator* communicator) {
    {
      const std::lock_guard lock(mutex_);
      std::erase_if(communicators_, [&](const Alive& one) { return one.communicator == communicator; });
    }
    delete communicator;
  }

  void watch() {
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, std::chrono::milliseconds(100), [&] { return ending_; })) {
      for (const Alive& one : communicators_) {
        const ncclResult_t status = one.communicator->state();
        if (status == ncclSuccess || status == ncclInProgress) continue;
        const std::string last = one.communicator->last_error();
        why_ = sentence("NCCL lost a peer: ", std::string_view(ncclGetErrorString(status)), last.empty() ? "" : ", ", last, "; see what the other ranks say, or set NCCL_DEBUG=INFO");
        break;
      }
      if (why_.empty() && host_ && host_->ended()) why_ = "NCCL was stopped, since another rank has failed";
      if (why_.empty()) {
        note_waits();
        continue;
      }
      failed_.store(true, std::memory_order_release);
      for (const Alive& one : communicators_) one.communicator->abort();
      return;
    }
  }

  void note_waits() {
    constexpr double quiet_seconds = 1;
    Watch* const notes = host_ ? host_->watch() : nullptr;
    if (!notes) return;
    std::int64_t calls = 0;
    for (const Alive& one : communicators_) calls += one.communicator->calls();
    const double now = steady_seconds();
    if (calls != calls_) calls_ = calls, quiet_since_ = now;
    for (const Alive& one : communicators_) {
      const std::optional<Transfer> transfer = now - quiet_since_ < quiet_seconds ? std::nullopt : one.communicator->under_way();
      if (transfer) return notes->begin_on_device(*transfer, one.axis, -1);
    }
    notes->end_on_device();
  }

  cudaStream_t compute_;
  std::shared_ptr<Backend> host_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Alive> communicators_;
  std::int64_t calls_ = 0;   // of all that are alive
  double quiet_since_ = 0;  // when a transfer was last begun
  std::string why_;
  std::atomic<bool> failed_{false};
  bool ending_ = false;
  std::thread watcher_;  // last: it uses the others
};

}  // namespace golem::nccl
