// ThreadGroup: the Backend of ranks that are threads of one process and read each other's memory.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/comm/reduction.hpp"
#include "golem/comm/thread_run.hpp"
#include "golem/comm/transfer_queue.hpp"

namespace golem {

/// One rank of a group of threads. A reduction is made once, slice by slice, each by one rank for all, in the order of ranks: so it
/// is the same on all of them, bit for bit, and the same as a loop over ranks. No rank holds a copy of what another has.
class ThreadGroup final : public Backend, public std::enable_shared_from_this<ThreadGroup> {
 public:
  ThreadGroup(std::shared_ptr<ThreadRun> run, std::shared_ptr<Hall> hall, int rank)
      : run_(std::move(run)), hall_(std::move(hall)), rank_(rank), queue_(collective_) {}

  int rank() const override { return rank_; }
  int size() const override { return hall_->size(); }
  std::string_view axis() const override { return hall_->axis; }
  Watch* watch() override { return &run_->watch(world_rank(rank_)); }
  std::int64_t copied() const override { return copied_; }
  bool ended() const override { return run_->ended(); }

  [[noreturn]] void end_run(std::string_view why) override {
    run_->end(why);
    run_->fail_because_ended();
  }

  void run(const Transfer& transfer) override {
    check(transfer);
    if (is_message(transfer)) return wait(*post(transfer));
    const Waiting waiting = wait_in(transfer);
    queue_.drain();
    collective(transfer);
  }
  inline std::unique_ptr<PendingTransfer> start(
      const Transfer& transfer) override;  // inline here too: else every file that includes this gets all of it
  inline std::shared_ptr<Backend> split(int color, int key, std::string_view axis) override;

 private:
  class PendingMessage;
  class PendingCollective;
  struct Collective {
    ThreadGroup& group;
    void operator()(const Transfer& transfer) const { group.collective(transfer); }
  };

  int world_rank(int member) const { return hall_->ranks[static_cast<std::size_t>(member)]; }
  Waiting wait_in(const Transfer& transfer) { return {*watch(), transfer, hall_->axis, is_message(transfer) ? world_rank(transfer.peer) : -1}; }

  void check(const Transfer& transfer) const {
    check_peer(transfer, rank_, size(), axis());
    const std::int64_t bytes = transfer.count * size_of(transfer.type);
    if (transfer.kind == Transfer::Kind::reduce_scatter) check_part(transfer, transfer.out, transfer.in, bytes);
    if (transfer.kind == Transfer::Kind::all_gather) check_part(transfer, transfer.in, transfer.out, bytes);
  }
  void check_part(const Transfer& transfer, const void* part, const void* whole, std::int64_t bytes) const {
    const auto* const own = static_cast<const std::byte*>(whole) + rank_ * bytes;
    const auto* const begin = static_cast<const std::byte*>(part);
    const bool apart = begin + bytes <= static_cast<const std::byte*>(whole) || begin >= static_cast<const std::byte*>(whole) + size() * bytes;
    require(bytes == 0 || apart || begin == own, name_of(transfer.kind), " of ", transfer.count, " elements on the ", axis(),
            " axis: the part of rank ", rank_, " lies across the whole: it must be the rank's own part of it, or lie elsewhere");
  }

  /// Returns when all have posted the same call; ends the run where they differ.
  void meet(const Transfer& transfer);
  void collective(const Transfer& transfer);
  void write(void* to, const void* from, std::int64_t bytes) {
    if (bytes == 0 || to == from) return;
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
    copied_ += bytes;
  }
  void move(const Transfer& transfer);

  std::shared_ptr<Message> post(const Transfer& transfer) {
    const bool sends = transfer.kind == Transfer::Kind::send;
    auto message = std::make_shared<Message>(transfer);
    copied_ += (sends ? hall_->channel(rank_, transfer.peer) : hall_->channel(transfer.peer, rank_)).post(message);
    return message;
  }
  void wait(const Message& message) {
    const Waiting waiting = wait_in(message.transfer);
    const Message::State outcome = message.outcome();
    if (outcome == Message::dropped) run_->fail_because_ended();
    if (outcome == Message::differs) {
      const bool sends = message.transfer.kind == Transfer::Kind::send;
      const CallOfRank own{message.transfer, world_rank(rank_)}, met{message.met, world_rank(message.transfer.peer)};
      run_->end(different_message(axis(), watch()->now(), sends ? own : met, sends ? met : own));
      run_->fail_because_ended();
    }
  }

  const std::shared_ptr<ThreadRun> run_;
  const std::shared_ptr<Hall> hall_;
  const int rank_;
  std::atomic<std::int64_t> copied_{0};
  Collective collective_{*this};
  TransferQueue queue_;
};

class ThreadGroup::PendingMessage final : public PendingTransfer {
 public:
  PendingMessage(std::shared_ptr<ThreadGroup> group, std::shared_ptr<Message> message) : group_(std::move(group)), message_(std::move(message)) {}
  ~PendingMessage() override {
    if (!message_) return;
    if (std::uncaught_exceptions() > exceptions_) group_->run_->end(group_->world_rank(group_->rank_), "");
    message_->outcome();
  }
  void wait() override { group_->wait(*std::exchange(message_, nullptr)); }

 private:
  std::shared_ptr<ThreadGroup> group_;
  std::shared_ptr<Message> message_;
  const int exceptions_ = std::uncaught_exceptions();
};

class ThreadGroup::PendingCollective final : public PendingTransfer {
 public:
  PendingCollective(std::shared_ptr<ThreadGroup> group, std::shared_ptr<QueuedTransfer> queued, const Transfer& transfer)
      : group_(std::move(group)), queued_(std::move(queued)), transfer_(transfer) {}
  ~PendingCollective() override {
    if (!queued_) return;
    // Whoever leaves by an exception will make no more calls, so that what was started may never end: the others must know.
    if (std::uncaught_exceptions() > exceptions_) group_->run_->end(group_->world_rank(group_->rank_), "");
    queued_->outcome();
  }
  void wait() override {
    const auto queued = std::exchange(queued_, nullptr);
    if (!queued->done()) {
      const Waiting waiting = group_->wait_in(transfer_);
      queued->outcome();
    }
    seconds_ = queued->seconds();
    queued->wait();
  }
  double seconds() const override { return seconds_; }

 private:
  std::shared_ptr<ThreadGroup> group_;
  std::shared_ptr<QueuedTransfer> queued_;
  const Transfer transfer_;
  double seconds_ = 0;
  const int exceptions_ = std::uncaught_exceptions();
};

inline std::unique_ptr<PendingTransfer> ThreadGroup::start(const Transfer& transfer) {
  check(transfer);
  if (is_message(transfer)) {
    auto message = post(transfer);
    if (message->state.load(std::memory_order_acquire) == Message::done) return nullptr;
    return std::make_unique<PendingMessage>(shared_from_this(), std::move(message));
  }
  if (size() > 1) return std::make_unique<PendingCollective>(shared_from_this(), queue_.push(transfer), transfer);
  collective(transfer);
  return nullptr;
}

inline void ThreadGroup::meet(const Transfer& transfer) {
  hall_->posted[static_cast<std::size_t>(rank_)] = transfer;
  if (!hall_->come.pass()) run_->fail_because_ended();
  const int differs = first_that_differs(hall_->posted);
  if (differs < 0) return;
  run_->end(different_calls(axis(), watch()->now(), {hall_->posted[0], world_rank(0)},
                            {hall_->posted[static_cast<std::size_t>(differs)], world_rank(differs)}));
  hall_->gone.pass();
  run_->fail_because_ended();
}

inline void ThreadGroup::collective(const Transfer& transfer) {
  meet(transfer);
  move(transfer);
  hall_->gone.pass();
}

/// This rank's share of a collective, once all have posted theirs.
inline void ThreadGroup::move(const Transfer& transfer) {
  using Kind = Transfer::Kind;
  const std::vector<Transfer>& all = hall_->posted;
  const std::int64_t bytes = transfer.count * size_of(transfer.type);
  if (transfer.kind == Kind::broadcast) return write(transfer.out, all[static_cast<std::size_t>(transfer.peer)].out, bytes);
  if (transfer.kind == Kind::all_gather) {
    for (int from = 0; from < size(); ++from)
      write(static_cast<std::byte*>(transfer.out) + from * bytes, all[static_cast<std::size_t>(from)].in, bytes);
    return;
  }
  if (transfer.kind == Kind::barrier) return;
  const bool scatter = transfer.kind == Kind::reduce_scatter;
  std::vector<const void*> in;
  std::vector<void*> out;
  for (const Transfer& other : all) in.push_back(scatter ? static_cast<const std::byte*>(other.in) + rank_ * bytes : other.out);
  if (scatter)
    out.push_back(transfer.out);
  else
    for (const Transfer& other : all) out.push_back(other.out);
  // All-reduce: slices in multiples of 64 elements, so that no two ranks write to one cache line.
  const std::int64_t slice = (transfer.count / size() / 64 + 1) * 64;
  const std::int64_t first = scatter ? 0 : std::min(transfer.count, rank_ * slice),
                     last = scatter ? transfer.count : std::min(transfer.count, first + slice);
  with_element(transfer.type, [&]<class T>(T) { reduce_elements<T>(out, in, first, last - first, transfer.how); });
  copied_ += (last - first) * size_of(transfer.type) * static_cast<std::int64_t>(out.size());
}

inline std::shared_ptr<Backend> ThreadGroup::split(int color, int key, std::string_view axis) {
  queue_.drain();
  auto& choices = hall_->choices;
  choices[static_cast<std::size_t>(rank_)] = {color, key};
  {
    const Transfer call{.kind = Transfer::Kind::split};
    const Waiting waiting = wait_in(call);
    meet(call);
  }
  std::vector<int> members;
  for (int rank = 0; rank < size(); ++rank) {
    if (choices[static_cast<std::size_t>(rank)].color != color) continue;
    auto place = members.end();
    while (place != members.begin() && choices[static_cast<std::size_t>(place[-1])].key > choices[static_cast<std::size_t>(rank)].key) --place;
    members.insert(place, rank);
  }
  const auto leader = static_cast<std::size_t>(members[0]);
  if (rank_ == members[0]) {
    std::vector<int> ranks;
    for (const int member : members) ranks.push_back(world_rank(member));
    hall_->made[leader] = std::make_shared<Hall>(axis, std::move(ranks));
    run_->add(hall_->made[leader]);
  }
  hall_->gone.pass();
  auto mine = hall_->made[leader];
  hall_->gone.pass();
  if (rank_ == members[0]) hall_->made[leader].reset();
  return std::make_shared<ThreadGroup>(run_, std::move(mine), static_cast<int>(std::find(members.begin(), members.end(), rank_) - members.begin()));
}

}  // namespace golem
