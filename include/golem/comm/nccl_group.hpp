// NcclGroup: a Backend whose transfers of device memory are NCCL's, on streams of their own; the rest goes the host's way.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/comm/nccl_session.hpp"

namespace golem {

/// One rank of a group of GPUs. `inner` is the same group on the host: through it ranks meet, are watched and fail, and host memory travels.
/// A transfer begins when what the compute stream was given before has run; Pending::wait() makes the stream wait, not the host.
///
/// Collectives of a group share a communicator; messages have one for each pair of ranks and direction, since NCCL runs the calls of a
/// communicator one after the other. Each is made by the first transfer that needs it, which waits for the others there, by messages of host
/// memory both ways: so the first messages of a ring must not all be sends, nor all receives, and no message of host memory may be under way
/// between the two ranks then. Those of a pipeline, whose stages receive what was sent before, keep to it.
class NcclGroup final : public PassingBackend, public std::enable_shared_from_this<NcclGroup> {
 public:
  NcclGroup(std::shared_ptr<Backend> inner, std::shared_ptr<nccl::Session> session) : PassingBackend(std::move(inner)), session_(std::move(session)) {}
  ~NcclGroup() override {
    for (cudaEvent_t event : events_) static_cast<void>(cudaEventDestroy(event));
  }

  const void* device_stream() const override { return session_->compute(); }
  bool captures() const override { return session_->captures(); }
  /// A graph waits for its peers as a transfer does: it is under way as the first that was captured, on the stream that it runs on.
  void run_graph(function_ref<void()> start) override {
    session_->require_alive();
    if (!captured_) return start();
    communicators_.at(collectives)->under_way()->add(*captured_, session_->compute(), start);
  }
  void run(const Transfer& transfer) override {
    if (on_device(transfer)) return start(transfer)->wait();
    session_->require_alive();  // what the GPU computed since NCCL has failed is not to be acted on
    inner().run(transfer);
  }

  std::unique_ptr<PendingTransfer> start(const Transfer& transfer) override {
    session_->require_alive();
    if (!on_device(transfer)) return inner().start(transfer);
    check_peer(transfer, rank(), size(), axis());
    nccl::Communicator& communicator = communicator_for(transfer);
    const cudaEvent_t event = take_event();
    auto started = std::make_unique<Started>(shared_from_this(), event);  // which keeps the event, also where a call fails
    cuda::runtime::record(event, session_->compute());
    cuda::runtime::wait(communicator.stream(), event);
    const int peer = is_message(transfer) ? (transfer.kind == Transfer::Kind::send ? 1 : 0) : transfer.peer;
    const bool captured = cuda::runtime::is_captured(communicator.stream());
    try {
      if (captured) communicator.capture(transfer, peer);
      else communicator.enqueue(transfer, peer);
    } catch (...) {
      static_cast<void>(cudaEventRecord(event, communicator.stream()));  // what NCCL began may still read the transfer's memory: the compute stream waits for its end
      session_->require_alive();  // why it failed, where more is known
      throw;
    }
    cuda::runtime::record(event, communicator.stream());
    if (captured && !captured_ && !is_message(transfer)) captured_ = transfer;
    return started;
  }

  std::shared_ptr<Backend> split(int color, int key, std::string_view axis) override { return std::make_shared<NcclGroup>(inner().split(color, key, axis), session_); }

 private:
  class Started final : public PendingTransfer {
   public:
    Started(std::shared_ptr<NcclGroup> group, cudaEvent_t event) : group_(std::move(group)), event_(event) {}
    ~Started() override {
      if (!group_) return;
      static_cast<void>(cudaStreamWaitEvent(group_->session_->compute(), event_, 0));
      group_->events_.push_back(event_);
    }
    void wait() override {
      const auto group = std::exchange(group_, nullptr);
      group->events_.push_back(event_);
      group->session_->require_alive();
      cuda::runtime::wait(group->session_->compute(), event_);
    }

   private:
    std::shared_ptr<NcclGroup> group_;
    cudaEvent_t event_;
  };

  using Route = std::pair<int, int>;  // sender and receiver
  static constexpr Route collectives{-1, -1};

  static bool on_device(const Transfer& transfer) {
    const void* const memory = transfer.out ? transfer.out : transfer.in;
    return transfer.count > 0 && cuda::runtime::is_device_memory(memory);
  }

  cudaEvent_t take_event() {
    if (events_.empty()) return cuda::runtime::create_event();
    const cudaEvent_t event = events_.back();
    events_.pop_back();
    return event;
  }

  nccl::Communicator& communicator_for(const Transfer& transfer) {
    const bool sends = transfer.kind == Transfer::Kind::send;
    const Route route = !is_message(transfer) ? collectives : sends ? Route(rank(), transfer.peer) : Route(transfer.peer, rank());
    std::shared_ptr<nccl::Communicator>& communicator = communicators_[route];
    if (communicator) return *communicator;
    require(!cuda::runtime::is_captured(session_->compute()), "the first ", call_of(transfer), " on the ", axis(), " axis was to be captured as part of a graph, and ranks cannot meet there: make one before, without a graph");
    ncclUniqueId id{};
    const bool collective = route == collectives, makes = collective ? rank() == 0 : sends;
    if (makes) id = nccl::unique_id();
    Transfer letter{.kind = collective ? Transfer::Kind::broadcast : transfer.kind, .count = sizeof id, .type = DType::u8, .peer = collective ? 0 : transfer.peer};
    if (letter.kind == Transfer::Kind::send) letter.in = &id;
    else letter.out = &id;
    std::optional<Waiting> waiting;
    if (Watch* const here = watch()) waiting.emplace(*here, transfer, axis(), -1);
    inner().run(letter);
    if (Watch* const here = watch()) waiting.emplace(*here, transfer, axis(), -1);  // again: the letter's way may have noted its own end
    communicator = collective ? session_->meet(id, size(), rank(), axis()) : session_->meet(id, 2, sends ? 0 : 1, axis());
    // Whoever goes on puts kernels on its GPU that wait for the others; these must not be in the midst of allocating a communicator then.
    std::uint8_t met = 1;
    Transfer answer{.kind = collective ? Transfer::Kind::barrier : sends ? Transfer::Kind::receive : Transfer::Kind::send, .count = collective ? 0 : 1, .type = DType::u8, .peer = transfer.peer};
    if (answer.kind == Transfer::Kind::send) answer.in = &met;
    else if (!collective) answer.out = &met;
    inner().run(answer);
    return *communicator;
  }

  std::shared_ptr<nccl::Session> session_;
  std::map<Route, std::shared_ptr<nccl::Communicator>> communicators_;
  std::vector<cudaEvent_t> events_;   // that no transfer uses
  std::optional<Transfer> captured_;  // the first collective that was
};

}  // namespace golem
