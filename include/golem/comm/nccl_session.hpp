// nccl::Session: the communicators of one rank, watched by a thread that ends them all when one has lost a peer.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
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

#include "golem/comm/failure.hpp"
#include "golem/comm/nccl_runtime.hpp"
#include "golem/comm/nccl_waits.hpp"
#include "golem/cuda/way_out.hpp"

namespace golem::nccl {

/// What the groups of one rank share: the stream that computes, and whether NCCL still works. A kernel of NCCL waits for ever for a
/// peer that is gone; once NCCL says so, or the ranks' own way of communicating that the run has ended, every communicator is aborted, so that
/// the host gets its stream back and meets the error. It is a thread of its own that aborts them, the watcher: NCCL waits there for the graphs that
/// have transfers in them, and these are destroyed by the rank's thread, on its way out. So graphs must not outlive the session, nor their groups.
class Session {
 public:
  /// `host` is that way; null for a rank alone.
  Session(cudaStream_t compute, std::shared_ptr<Backend> host, bool captures) : compute_(compute), host_(std::move(host)), captures_(captures) {
    const int device = cuda::runtime::current_device();
    if (Watch* const notes = host_ ? host_->watch() : nullptr) notes_.emplace(*notes, device);
    watcher_ = std::thread([this, device] {
      static_cast<void>(cudaSetDevice(device));  // else an abort would open another GPU; where it fails, the rank itself meets what is wrong
      watch();
    });
  }
  ~Session() {
    notes_.reset();  // it may wait for the GPU, which the watcher gives back
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
  /// Whether graphs may have transfers in them.
  bool captures() const { return captures_; }

  /// A communicator over the ranks that are given the same id; returns when all have come.
  std::shared_ptr<Communicator> meet(const ncclUniqueId& id, int ranks, int rank, std::string_view axis) {
    require_alive();
    const std::shared_ptr<Communicator> made(new Communicator(id, ranks, rank, axis), [this](Communicator* one) { forget(one); });
    {
      const std::lock_guard lock(mutex_);
      communicators_.push_back(made.get());
    }
    require_alive();  // NCCL may have failed meanwhile
    if (notes_) notes_->add(made->under_way());
    const ncclResult_t status = made->settle();
    require_alive();  // why it failed, where more is known
    check(status, nullptr, "let rank ", rank, " of ", ranks, " on the ", axis, " axis meet the others");
    return made;
  }

  /// Throws Error where a communicator has failed.
  void require_alive() const {
    if (!failed_.load(std::memory_order_acquire)) [[likely]] return;
    const std::lock_guard lock(mutex_);
    if (run_ended_) throw RunEnded(why_);
    throw Error(why_);
  }

 private:
  /// Takes leave in the thread that drops a communicator. One that does not come to a good end is aborted, and where others are at work, with all others.
  void forget(Communicator* communicator) {
    const std::string_view kept = communicator->take_leave();  // the watcher may abort it meanwhile, where a peer is gone
    const bool alone = std::all_of(communicators_.begin(), communicators_.end(), [&](const Communicator* one) { return one == communicator || one->under_way()->none(); });
    {
      const std::lock_guard lock(mutex_);
      if (!kept.empty()) {
        std::optional<std::string> why = failure();
        if (why || !alone) end(why ? std::move(*why) : sentence("NCCL was stopped: ", kept));
        else end(*communicator);
      }
      std::erase(communicators_, communicator);
    }
    delete communicator;
  }

  /// The rank is on its way out by an error, and its stream waits for others.
  void leave() {
    const std::lock_guard lock(mutex_);
    if (why_.empty()) end("NCCL was stopped: this rank has left by an error");
  }

  void watch() {
    for (std::unique_lock lock(mutex_); !ending_ || !ended_.empty();) {
      changed_.wait_for(lock, std::chrono::milliseconds(100), [&] { return ending_ || !ended_.empty(); });
      if (why_.empty() && !ending_) {
        std::optional<std::string> why = failure();
        if (!why && host_ && host_->ended()) why = "NCCL was stopped, since another rank has failed", run_ended_ = true;
        if (why) end(std::move(*why));
      }
      const std::vector<Communicator::Released> ended = std::exchange(ended_, {});
      lock.unlock();
      abort(ended);
      lock.lock();
    }
  }

  /// As one group: the end of one frees memory of its GPU, which would wait for the kernels of the others.
  static void abort(const std::vector<Communicator::Released>& communicators) {
    if (communicators.empty()) return;
    static_cast<void>(ncclGroupStart());
    for (const Communicator::Released& one : communicators) static_cast<void>(ncclCommAbort(one.comm));
    static_cast<void>(ncclGroupEnd());
  }

  /// What a communicator says that has failed. The lock is held, here and in end().
  std::optional<std::string> failure() const {
    for (const Communicator* one : communicators_) {
      const ncclResult_t status = one->state();
      if (status == ncclSuccess || status == ncclInProgress) continue;
      const std::string last = one->last_error();
      return sentence("NCCL lost a peer: ", std::string_view(ncclGetErrorString(status)), last.empty() ? "" : ", ", last, "; see what the other ranks say, or set NCCL_DEBUG=INFO");
    }
    return std::nullopt;
  }

  /// From here on no transfer begins, and the watcher aborts every communicator.
  void end(std::string why) {
    if (why_.empty()) why_ = std::move(why);
    failed_.store(true, std::memory_order_release);
    for (Communicator* one : communicators_) end(*one);
  }
  /// The watcher aborts this one.
  void end(Communicator& communicator) {
    if (Communicator::Released released = communicator.release(); released.comm) ended_.push_back(std::move(released));
    changed_.notify_one();
  }

  cudaStream_t compute_;
  std::shared_ptr<Backend> host_;
  const bool captures_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Communicator*> communicators_;  // that are alive; the rank's thread alone adds and drops
  std::vector<Communicator::Released> ended_;  // that the watcher is to abort
  std::string why_;
  std::atomic<bool> failed_{false};
  bool ending_ = false, run_ended_ = false;
  std::optional<WaitNotes> notes_;  // where somebody watches
  std::thread watcher_;
  const cuda::WayOut way_out_{compute_, this, [](void* session) { static_cast<Session*>(session)->leave(); }};
};

}  // namespace golem::nccl
