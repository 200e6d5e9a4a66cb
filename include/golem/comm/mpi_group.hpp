// MpiGroup: the Backend of ranks that are processes, through MPI: CPU buffers.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mpi.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/comm/failure.hpp"
#include "golem/comm/mpi_collectives.hpp"
#include "golem/comm/mpi_session.hpp"
#include "golem/comm/transfer_queue.hpp"

namespace golem {

/// One rank of a group of processes. A blocking call is MPI's own; collectives that are started run on a thread that polls and sleeps.
class MpiGroup final : public Backend, public std::enable_shared_from_this<MpiGroup> {
 public:
  /// `comm` becomes this group's own.
  MpiGroup(std::shared_ptr<MpiSession> session, MPI_Comm comm, std::string_view axis)
      : session_(std::move(session)),
        comm_(comm),
        axis_(axis),
        collectives_(*session_, comm_, axis_),
        world_ranks_(static_cast<std::size_t>(size())),
        queue_(background_) {
    int own = 0;
    mpi_check(MPI_Comm_rank(MPI_COMM_WORLD, &own), "say the rank");
    mpi_check(MPI_Allgather(&own, 1, MPI_INT, world_ranks_.data(), 1, MPI_INT, comm_), "gather the ranks of a group");
  }
  ~MpiGroup() override {
    if (std::uncaught_exceptions() == exceptions_ && queue_.idle()) MPI_Comm_free(&comm_);
  }

  int rank() const override { return collectives_.rank(); }
  int size() const override { return collectives_.size(); }
  std::string_view axis() const override { return axis_; }
  Watch* watch() override { return &session_->watch(); }
  [[noreturn]] void end_run(std::string_view why) override { session_->fail(Fate::parted, why); }
  void fail_rank(const std::exception& why) override {
    const bool cut_off = dynamic_cast<const MpiError*>(&why) != nullptr;
    session_->fail(cut_off ? Fate::cut_off : Fate::failed, why.what());
  }

  void run(const Transfer& transfer) override {
    check_peer(transfer, rank(), size(), axis_);
    const Waiting waiting = wait_in(transfer);
    if (is_message(transfer)) return finish(transfer, post(transfer));
    queue_.drain();
    collective(transfer, MpiCollectives::Form::blocking);
  }
  inline std::unique_ptr<PendingTransfer> start(const Transfer& transfer) override;  // inline here too: else every file that includes this gets all of it
  std::shared_ptr<Backend> split(int color, int key, std::string_view axis) override {
    const Transfer call{.kind = Transfer::Kind::split};
    const Waiting waiting = wait_in(call);
    queue_.drain();
    meet(call, MpiCollectives::Form::blocking);
    MPI_Comm part = MPI_COMM_NULL;
    mpi_check(MPI_Comm_split(comm_, color, key, &part), "split the ranks of the ", axis_, " axis");
    return std::make_shared<MpiGroup>(session_, part, axis);
  }

 private:
  class PendingMessage;
  class PendingCollective;
  struct Background {
    MpiGroup& group;
    void operator()(const Transfer& transfer) const { group.collective(transfer, MpiCollectives::Form::started); }
  };

  int world_rank(int member) const { return world_ranks_[static_cast<std::size_t>(member)]; }
  Waiting wait_in(const Transfer& transfer) { return {*watch(), transfer, axis_, is_message(transfer) ? world_rank(transfer.peer) : -1}; }

  /// The type of what is sent travels as MPI's tag; messages between two ranks are in order all the same.
  MPI_Request post(const Transfer& transfer) {
    MPI_Request request = MPI_REQUEST_NULL;
    const int count = mpi_count(transfer.count);
    const MPI_Datatype type = mpi_type(transfer.type);
    const int code = transfer.kind == Transfer::Kind::send
                         ? MPI_Isend(transfer.in, count, type, transfer.peer, static_cast<int>(transfer.type), comm_, &request)
                         : MPI_Irecv(transfer.out, count, type, transfer.peer, MPI_ANY_TAG, comm_, &request);
    mpi_check(code, call_of(transfer), " on the ", axis_, " axis");
    return request;
  }
  void finish(const Transfer& transfer, MPI_Request request) {
    MPI_Status status;
    const int code = MPI_Wait(&request, &status);
    if (transfer.kind == Transfer::Kind::send) return mpi_check(code, call_of(transfer), " on the ", axis_, " axis");
    int kind = MPI_SUCCESS, count = 0;
    if (code != MPI_SUCCESS) MPI_Error_class(code, &kind);
    if (kind != MPI_ERR_TRUNCATE) mpi_check(code, call_of(transfer), " on the ", axis_, " axis");
    Transfer sent = transfer;
    sent.type = static_cast<DType>(status.MPI_TAG);
    mpi_check(MPI_Get_count(&status, mpi_type(sent.type), &count), "count what was received");
    sent.count = count;
    if (kind == MPI_ERR_TRUNCATE)
      end_run(sentence("rank ", world_rank(transfer.peer), " sent more to rank ", world_rank(rank()), " on the ", axis_, " axis than the ",
                       transfer.count, ' ', name_of(transfer.type), " that it expected", place_of(watch()->now())));
    if (sent.count != transfer.count || sent.type != transfer.type)
      end_run(different_message(axis_, watch()->now(), {sent, world_rank(transfer.peer)}, {transfer, world_rank(rank())}));
  }

  void collective(const Transfer& transfer, MpiCollectives::Form form) { collectives_.run(transfer, meet(transfer, form)); }

  /// Returns when all make the same call, with the form that all take; ends the run where they differ.
  MpiCollectives::Form meet(const Transfer& transfer, MpiCollectives::Form form) {
    const std::vector<Transfer> calls = collectives_.compare(transfer, form);
    if (calls.empty()) return form;
    const int differs = first_that_differs(calls);
    end_run(different_calls(axis_, watch()->now(), {calls[0], world_rank(0)}, {calls[static_cast<std::size_t>(differs)], world_rank(differs)}));
  }

  const std::shared_ptr<MpiSession> session_;
  MPI_Comm comm_;
  const std::string axis_;
  MpiCollectives collectives_;
  std::vector<int> world_ranks_;  // of the members
  const int exceptions_ = std::uncaught_exceptions();
  Background background_{*this};
  TransferQueue queue_;
};

class MpiGroup::PendingMessage final : public PendingTransfer {
 public:
  PendingMessage(std::shared_ptr<MpiGroup> group, const Transfer& transfer, MPI_Request request)
      : group_(std::move(group)), transfer_(transfer), request_(request) {
    group_->session_->progress().started();
  }
  ~PendingMessage() override {
    if (request_ != MPI_REQUEST_NULL && std::uncaught_exceptions() == exceptions_) MPI_Wait(&request_, MPI_STATUS_IGNORE);
    group_->session_->progress().ended();
  }
  void wait() override {
    const Waiting waiting = group_->wait_in(transfer_);
    group_->finish(transfer_, std::exchange(request_, MPI_REQUEST_NULL));
  }

 private:
  std::shared_ptr<MpiGroup> group_;
  const Transfer transfer_;
  MPI_Request request_;
  const int exceptions_ = std::uncaught_exceptions();
};

class MpiGroup::PendingCollective final : public PendingTransfer {
 public:
  PendingCollective(std::shared_ptr<MpiGroup> group, std::shared_ptr<QueuedTransfer> queued, const Transfer& transfer)
      : group_(std::move(group)), queued_(std::move(queued)), transfer_(transfer) {}
  ~PendingCollective() override {
    if (!queued_) return;
    if (std::uncaught_exceptions() > exceptions_) group_->session_->abandon();
    queued_->outcome();
  }
  void wait() override {
    const auto queued = std::exchange(queued_, nullptr);
    const Waiting waiting = group_->wait_in(transfer_);
    queued->wait();
    seconds_ = queued->seconds();
  }
  double seconds() const override { return seconds_; }

 private:
  std::shared_ptr<MpiGroup> group_;
  std::shared_ptr<QueuedTransfer> queued_;
  const Transfer transfer_;
  double seconds_ = 0;
  const int exceptions_ = std::uncaught_exceptions();
};

inline std::unique_ptr<PendingTransfer> MpiGroup::start(const Transfer& transfer) {
  check_peer(transfer, rank(), size(), axis_);
  if (is_message(transfer)) return std::make_unique<PendingMessage>(shared_from_this(), transfer, post(transfer));
  return std::make_unique<PendingCollective>(shared_from_this(), queue_.push(transfer), transfer);
}

}  // namespace golem
