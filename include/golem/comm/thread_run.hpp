// ThreadRun: what the ranks of one process share: what each does, and whether and why the run has ended.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/comm/failure.hpp"
#include "golem/comm/rendezvous.hpp"
#include "golem/comm/watch.hpp"

namespace golem {

/// The meeting place of one group of threads.
struct Hall {
  struct Choice {
    int color = 0, key = 0;
  };

  std::string axis;
  std::vector<int> ranks;  // of the members, in the world
  Gate come, gone;         // all have posted; all have finished with the others' memory
  std::vector<Transfer> posted;
  std::vector<Choice> choices;
  std::vector<std::shared_ptr<Hall>> made;  // by the first member of each part of a split
  std::unique_ptr<Channel[]> channels;      // from, to

  Hall(std::string_view axis, std::vector<int> members)
      : axis(axis),
        ranks(std::move(members)),
        come(size()),
        gone(size()),
        posted(ranks.size()),
        choices(ranks.size()),
        made(ranks.size()),
        channels(new Channel[ranks.size() * ranks.size()]) {}
  int size() const { return static_cast<int>(ranks.size()); }
  Channel& channel(int from, int to) { return channels[static_cast<std::size_t>(from * size() + to)]; }
  /// Nobody waits in here any more for others to come. Those that have met go on to the end of what they do, since they use each other's memory.
  void close() {
    come.close();
    for (int i = 0; i < size() * size(); ++i) channels[static_cast<std::size_t>(i)].close();
  }
};

/// One run of ranks that are threads.
class ThreadRun {
 public:
  explicit ThreadRun(int ranks) : watches_(new Watch[static_cast<std::size_t>(ranks)]), ranks_(ranks) {}

  Watch& watch(int rank) { return watches_[static_cast<std::size_t>(rank)]; }
  std::vector<Doing> doing() const {
    std::vector<Doing> all;
    for (int rank = 0; rank < ranks_; ++rank) all.push_back(watches_[static_cast<std::size_t>(rank)].now());
    return all;
  }

  void add(const std::shared_ptr<Hall>& hall) {
    const std::lock_guard lock(mutex_);
    std::erase_if(halls_, [](const std::weak_ptr<Hall>& old) { return old.expired(); });
    halls_.push_back(hall);
    if (ended_) hall->close();
  }

  /// Ends the run because of one rank, if it has not ended yet. A rank that is on its way out may give the reason later.
  void end(int rank, std::string_view why) {
    close([&](bool first) {
      if (first) rank_ = rank, doing_ = doing();
      if (rank_ == rank && why_.empty()) why_ = why;
    });
  }
  /// Ends the run with a sentence that is no one rank's.
  void end(std::string_view whole) {
    close([&](bool first) {
      if (first) why_ = whole;
    });
  }

  bool ended() const { return ended_; }
  /// What ended it, in one sentence.
  std::string sentence_of_end() const {
    const std::lock_guard lock(mutex_);
    if (rank_ < 0) return why_;
    return failure_of(rank_, why_.empty() ? "it left by an exception that nobody reported" : why_, doing_);
  }
  /// What the ranks throw that the end meets in a transfer.
  [[noreturn]] void fail_because_ended() const {
    const std::lock_guard lock(mutex_);
    if (rank_ < 0) throw RunEnded(why_);
    throw RunEnded(sentence("this rank stops because rank ", rank_, " failed"));
  }

 private:
  template <class Reason>
  void close(const Reason& reason) {
    std::vector<std::shared_ptr<Hall>> open;
    {
      const std::lock_guard lock(mutex_);
      reason(!ended_);
      ended_ = true;
      for (const auto& hall : halls_)
        if (auto held = hall.lock()) open.push_back(std::move(held));
      halls_.clear();
    }
    for (const auto& hall : open) hall->close();
  }

  const std::unique_ptr<Watch[]> watches_;
  const int ranks_;
  mutable std::mutex mutex_;
  std::atomic<bool> ended_{false};
  int rank_ = -1;  // that failed
  std::string why_;
  std::vector<Doing> doing_;  // when it ended
  std::vector<std::weak_ptr<Hall>> halls_;
};

}  // namespace golem
