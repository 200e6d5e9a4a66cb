// What a rank's GPU has under way of NCCL's transfers, and the thread that notes the rank as waiting where one of them takes long.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "golem/comm/watch.hpp"
#include "golem/cuda/runtime.hpp"

namespace golem::nccl {

/// The transfers of one communicator that have not ended, on its stream or in graphs, oldest first. The rank's thread adds, any other looks.
class TransfersUnderWay {
 public:
  struct Running {
    Transfer transfer;
    std::int64_t number;  // which of those that were added it is
    double seconds;       // since it was first seen to run
  };

  explicit TransfersUnderWay(std::string_view axis) : axis_(axis) {}
  ~TransfersUnderWay() {
    for (const Entry& entry : entries_) free_.insert(free_.end(), {entry.begun, entry.ended});
    for (const cudaEvent_t event : free_) static_cast<void>(cudaEventDestroy(event));
  }
  TransfersUnderWay(const TransfersUnderWay&) = delete;
  TransfersUnderWay& operator=(const TransfersUnderWay&) = delete;

  const std::string& axis() const { return axis_; }

  /// Calls put(), which puts the transfer, or a graph that has it, on `stream`, between two events. NCCL may wait for peers in there: it counts as
  /// under way already.
  template <class Put>
  void add(const Transfer& transfer, cudaStream_t stream, const Put& put) {
    const cudaEvent_t begun = take();
    std::list<Entry>::iterator entry;
    {
      const std::lock_guard lock(mutex_);
      free_.push_back(begun);  // not lost, should one of the next lines throw
      cuda::runtime::record(begun, stream);
      entry = entries_.insert(entries_.end(), {.transfer = transfer, .number = ++count_, .begun = begun, .ended = nullptr});
      free_.pop_back();
    }
    cudaEvent_t ended = nullptr;
    try {
      put();
      ended = take();
      cuda::runtime::record(ended, stream);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      free_.push_back(begun);
      if (ended) free_.push_back(ended);
      entries_.erase(entry);
      throw;
    }
    const std::lock_guard lock(mutex_);
    entry->ended = ended;
  }

  bool none() {
    const std::lock_guard lock(mutex_);
    drop_ended();
    return entries_.empty();
  }

  /// The oldest one, where its stream has come to it: it waits for the others, or for bytes.
  std::optional<Running> running(double now) {
    const std::lock_guard lock(mutex_);
    drop_ended();
    if (entries_.empty() || !cuda::runtime::is_past(entries_.front().begun)) return std::nullopt;
    if (std::exchange(seen_, entries_.front().number) != entries_.front().number) since_ = now;
    return Running{entries_.front().transfer, seen_, now - since_};
  }

 private:
  struct Entry {
    Transfer transfer;
    std::int64_t number;
    cudaEvent_t begun, ended;  // ended: null until it is on the stream
  };

  cudaEvent_t take() {
    const std::lock_guard lock(mutex_);
    drop_ended();
    if (free_.empty()) return cuda::runtime::create_event();
    const cudaEvent_t event = free_.back();
    free_.pop_back();
    return event;
  }
  void drop_ended() {
    for (; !entries_.empty() && entries_.front().ended && cuda::runtime::is_past(entries_.front().ended); entries_.pop_front())
      free_.insert(free_.end(), {entries_.front().begun, entries_.front().ended});
  }

  const std::string axis_;
  std::mutex mutex_;
  std::list<Entry> entries_;
  std::vector<cudaEvent_t> free_;
  std::int64_t count_ = 0, seen_ = 0;
  double since_ = 0;
};

/// A transfer of device memory is no call that its rank waits in: the rank waits behind it, in whatever asks the GPU for a result. So a thread asks the
/// GPU, and notes the rank as waiting for a transfer that has run for a second, be it beside what the rank computes. It is a thread of its own since
/// the GPU may not answer while it waits.
class WaitNotes {
 public:
  /// `device` is the rank's GPU.
  WaitNotes(Watch& watch, int device) : watch_(watch), device_(device), thread_([this] { work(); }) {}
  ~WaitNotes() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }
  WaitNotes(const WaitNotes&) = delete;
  WaitNotes& operator=(const WaitNotes&) = delete;

  void add(const std::shared_ptr<TransfersUnderWay>& transfers) {
    const std::lock_guard lock(mutex_);
    all_.push_back(transfers);
  }

 private:
  static constexpr double long_seconds = 1;

  void work() {
    try {
      cuda::runtime::set_device(device_);  // else asking would open another GPU
    } catch (const Error&) {  // the rank itself will meet what is wrong with it
      return;
    }
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, std::chrono::milliseconds(100), [&] { return ending_; })) {
      std::erase_if(all_, [](const std::weak_ptr<TransfersUnderWay>& one) { return one.expired(); });
      const std::vector<std::weak_ptr<TransfersUnderWay>> all = all_;
      lock.unlock();
      look(all);
      lock.lock();
    }
    watch_.end_on_device();  // nobody will say so later
  }

  void look(const std::vector<std::weak_ptr<TransfersUnderWay>>& all) {
    std::shared_ptr<TransfersUnderWay> longest;
    TransfersUnderWay::Running running{{}, 0, 0};
    for (const std::weak_ptr<TransfersUnderWay>& one : all) {
      const auto transfers = one.lock();
      const auto found = transfers ? transfers->running(steady_seconds()) : std::nullopt;
      if (found && (!longest || found->seconds > running.seconds)) longest = transfers, running = *found;
    }
    const bool waits = longest && running.seconds >= long_seconds;
    const std::pair<const void*, std::int64_t> which = waits ? std::pair(longest.get(), running.number) : std::pair(nullptr, 0);
    if (std::exchange(noted_, which) != which) watch_.end_on_device();
    if (waits) watch_.begin_on_device(running.transfer, longest->axis(), -1);
  }

  Watch& watch_;
  const int device_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::weak_ptr<TransfersUnderWay>> all_;
  bool ending_ = false;
  std::pair<const void*, std::int64_t> noted_;  // whose transfer, and which
  std::thread thread_;  // last: it uses the others
};

}  // namespace golem::nccl
