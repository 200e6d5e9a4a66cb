// MpiGroup: the Backend of ranks that are processes, through MPI: CPU buffers.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mpi.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/comm/failure.hpp"
#include "golem/comm/mpi_session.hpp"
#include "golem/comm/transfer_queue.hpp"

namespace golem {

/// One rank of a group of processes. Before each collective the ranks compare their calls, 40 bytes each. Sums of f16 and bf16 are made
/// in float and rounded once, as threads make them. A blocking call is MPI's own; what is started runs on a thread that polls and sleeps.
class MpiGroup final : public Backend, public std::enable_shared_from_this<MpiGroup> {
 public:
  /// `comm` becomes this group's own.
  MpiGroup(std::shared_ptr<MpiSession> session, MPI_Comm comm, std::string_view axis) : session_(std::move(session)), comm_(comm), axis_(axis), queue_(background_) {
    mpi_check(MPI_Comm_rank(comm_, &rank_), "say the rank");
    int size = 0, own = 0;
    mpi_check(MPI_Comm_size(comm_, &size), "count the ranks");
    mpi_check(MPI_Comm_rank(MPI_COMM_WORLD, &own), "say the rank");
    world_ranks_.resize(static_cast<std::size_t>(size));
    mpi_check(MPI_Allgather(&own, 1, MPI_INT, world_ranks_.data(), 1, MPI_INT, comm_), "gather the ranks of a group");
  }
  ~MpiGroup() override {
    if (std::uncaught_exceptions() == exceptions_ && queue_.idle()) MPI_Comm_free(&comm_);
  }

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(world_ranks_.size()); }
  std::string_view axis() const override { return axis_; }
  Watch* watch() override { return &session_->watch(); }
  [[noreturn]] void end_run(std::string_view why) override { session_->fail(Fate::parted, why); }
  void fail_rank(const std::exception& why) override {
    const bool cut_off = dynamic_cast<const MpiError*>(&why) != nullptr;
    session_->fail(cut_off ? Fate::cut_off : Fate::failed, why.what());
  }

  void run(const Transfer& transfer) override {
    check_peer(transfer, rank_, size(), axis_);
    const Waiting waiting = wait_in(transfer);
    if (is_message(transfer)) return finish(transfer, post(transfer));
    queue_.drain();
    collective(transfer, How::blocking);
  }
  std::unique_ptr<PendingTransfer> start(const Transfer& transfer) override;
  std::shared_ptr<Backend> split(int color, int key, std::string_view axis) override {
    require(color >= 0, "MPI's colours are not negative, and a split was asked for colour ", color);
    const Waiting waiting = wait_in({});
    queue_.drain();
    MPI_Comm part = MPI_COMM_NULL;
    mpi_check(MPI_Comm_split(comm_, color, key, &part), "split the ranks of the ", axis_, " axis");
    return std::make_shared<MpiGroup>(session_, part, axis);
  }

 private:
  class PendingMessage;
  class PendingCollective;
  enum class How : std::uint8_t { blocking, background };
  struct Background {
    MpiGroup& group;
    void operator()(const Transfer& transfer) const { group.collective(transfer, How::background); }
  };

  int world_rank(int member) const { return world_ranks_[static_cast<std::size_t>(member)]; }
  Waiting wait_in(const Transfer& transfer) { return {*watch(), transfer, axis_, is_message(transfer) ? world_rank(transfer.peer) : -1}; }

  /// The type of what is sent travels as MPI's tag; messages between two ranks are in order all the same.
  MPI_Request post(const Transfer& transfer) {
    MPI_Request request = MPI_REQUEST_NULL;
    const int count = mpi_count(transfer.count);
    const MPI_Datatype type = mpi_type(transfer.type);
    const int code = transfer.kind == Transfer::Kind::send ? MPI_Isend(transfer.in, count, type, transfer.peer, static_cast<int>(transfer.type), comm_, &request)
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
      end_run(sentence("rank ", world_rank(transfer.peer), " sent more to rank ", world_rank(rank_), " on the ", axis_, " axis than the ", transfer.count, ' ', name_of(transfer.type),
                       " that it expected", place_of(watch()->now())));
    if (sent.count != transfer.count || sent.type != transfer.type) end_run(different_message(axis_, watch()->now(), {sent, world_rank(transfer.peer)}, {transfer, world_rank(rank_)}));
  }

  void collective(const Transfer& transfer, How how);
  How agree_on_call(const Transfer& transfer, How how);
  void reduce(const Transfer& transfer, How how);
  template <class T, class Wide>
  void reduce_wide(const Transfer& transfer, How how);

  /// An MPI collective in its blocking form, or started, and awaited without keeping a core busy.
  template <class Blocking, class Started>
  void call(How how, const Blocking& blocking, const Started& started) {
    if (how == How::blocking) return mpi_check(blocking(), "finish a collective on the ", axis_, " axis");
    MPI_Request request = MPI_REQUEST_NULL;
    mpi_check(started(&request), "start a collective on the ", axis_, " axis");
    wait_idly(request);
  }
  void wait_idly(MPI_Request request) {
    for (int pause = 10;; pause = std::min(2 * pause, 500)) {
      int done = 0;
      mpi_check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "finish a collective on the ", axis_, " axis");
      if (done) return;
      if (session_->abandoned()) throw RunEnded("this rank is on its way out");
      usleep(static_cast<useconds_t>(pause));
    }
  }
  void all_reduce(void* x, std::int64_t count, DType type, Reduce how_reduced, How how) {
    const MPI_Op op = session_->reductions().of(how_reduced, type);
    const MPI_Datatype mpi = mpi_type(type);
    for (std::int64_t begin = 0; begin < count || begin == 0; begin += INT_MAX) {
      void* const from = static_cast<std::byte*>(x) + begin * size_of(type);
      const int n = static_cast<int>(std::min<std::int64_t>(count - begin, INT_MAX));
      call(how, [&] { return MPI_Allreduce(MPI_IN_PLACE, from, n, mpi, op, comm_); }, [&](MPI_Request* r) { return MPI_Iallreduce(MPI_IN_PLACE, from, n, mpi, op, comm_, r); });
    }
  }
  void reduce_scatter(void* out, const void* in, std::int64_t count, DType type, Reduce how_reduced, How how) {
    const MPI_Op op = session_->reductions().of(how_reduced, type);
    const MPI_Datatype mpi = mpi_type(type);
    const int n = mpi_count(count);
    call(how, [&] { return MPI_Reduce_scatter_block(in, out, n, mpi, op, comm_); }, [&](MPI_Request* r) { return MPI_Ireduce_scatter_block(in, out, n, mpi, op, comm_, r); });
  }

  const std::shared_ptr<MpiSession> session_;
  MPI_Comm comm_;
  const std::string axis_;
  int rank_ = 0;
  std::vector<int> world_ranks_;  // of the members
  const int exceptions_ = std::uncaught_exceptions();
  std::vector<std::byte> wide_;  // small numbers on their way, a piece at a time
  std::vector<std::byte> part_;  // the result of a reduce-scatter that is not written where it belongs at once
  Background background_{*this};
  TransferQueue queue_;
};

class MpiGroup::PendingMessage final : public PendingTransfer {
 public:
  PendingMessage(std::shared_ptr<MpiGroup> group, const Transfer& transfer, MPI_Request request) : group_(std::move(group)), transfer_(transfer), request_(request) {
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
  }

 private:
  std::shared_ptr<MpiGroup> group_;
  std::shared_ptr<QueuedTransfer> queued_;
  const Transfer transfer_;
  const int exceptions_ = std::uncaught_exceptions();
};

inline std::unique_ptr<PendingTransfer> MpiGroup::start(const Transfer& transfer) {
  check_peer(transfer, rank_, size(), axis_);
  if (is_message(transfer)) return std::make_unique<PendingMessage>(shared_from_this(), transfer, post(transfer));
  return std::make_unique<PendingCollective>(shared_from_this(), queue_.push(transfer), transfer);
}

/// The ranks compare what they call, and how: MPI's blocking collectives and its started ones do not meet each other, so all start where one does.
inline MpiGroup::How MpiGroup::agree_on_call(const Transfer& transfer, How how) {
  using Kind = Transfer::Kind;
  const bool reduces = transfer.kind == Kind::all_reduce || transfer.kind == Kind::reduce_scatter;
  std::int64_t call = static_cast<std::int64_t>(transfer.kind) | static_cast<std::int64_t>(transfer.type) << 8;
  if (reduces) call |= static_cast<std::int64_t>(transfer.how) << 16;
  if (transfer.kind == Kind::broadcast) call |= static_cast<std::int64_t>(transfer.peer) << 24;
  std::int64_t most[]{call, transfer.count, -call, -transfer.count, static_cast<std::int64_t>(how)};
  MPI_Request request = MPI_REQUEST_NULL;
  mpi_check(MPI_Iallreduce(MPI_IN_PLACE, most, 5, MPI_INT64_T, MPI_MAX, comm_, &request), "compare the calls of the ranks of the ", axis_, " axis");
  if (how == How::blocking) mpi_check(MPI_Wait(&request, MPI_STATUS_IGNORE), "compare the calls of the ranks of the ", axis_, " axis");
  else wait_idly(request);
  if (most[0] == -most[2] && most[1] == -most[3]) return static_cast<How>(most[4]);
  const std::int64_t own[]{call, transfer.count};
  std::vector<std::int64_t> all(2 * world_ranks_.size());
  mpi_check(MPI_Allgather(own, 2, MPI_INT64_T, all.data(), 2, MPI_INT64_T, comm_), "gather the calls of the ranks");
  std::vector<Transfer> calls;
  for (std::size_t i = 0; i < all.size(); i += 2)
    calls.push_back({.kind = static_cast<Kind>(all[i] & 255), .count = all[i + 1], .type = static_cast<DType>(all[i] >> 8 & 255), .how = static_cast<Reduce>(all[i] >> 16 & 255),
                     .peer = static_cast<int>(all[i] >> 24)});
  const int differs = first_that_differs(calls);
  end_run(different_calls(axis_, watch()->now(), {calls[0], world_rank(0)}, {calls[static_cast<std::size_t>(differs)], world_rank(differs)}));
}

inline void MpiGroup::collective(const Transfer& transfer, How how) {
  how = agree_on_call(transfer, how);
  const std::int64_t bytes = transfer.count * size_of(transfer.type);
  const MPI_Datatype type = mpi_type(transfer.type);
  switch (transfer.kind) {
    case Transfer::Kind::all_reduce:
    case Transfer::Kind::reduce_scatter: return reduce(transfer, how);
    case Transfer::Kind::all_gather: {
      const int n = mpi_count(transfer.count);
      const void* const in = transfer.in == static_cast<std::byte*>(transfer.out) + rank_ * bytes ? MPI_IN_PLACE : transfer.in;
      return call(how, [&] { return MPI_Allgather(in, n, type, transfer.out, n, type, comm_); },
                  [&](MPI_Request* r) { return MPI_Iallgather(in, n, type, transfer.out, n, type, comm_, r); });
    }
    case Transfer::Kind::broadcast: {
      const int n = mpi_count(transfer.count);
      return call(how, [&] { return MPI_Bcast(transfer.out, n, type, transfer.peer, comm_); }, [&](MPI_Request* r) { return MPI_Ibcast(transfer.out, n, type, transfer.peer, comm_, r); });
    }
    default: return;  // a barrier: the ranks have met over their calls
  }
}

inline void MpiGroup::reduce(const Transfer& transfer, How how) {
  if (transfer.type == DType::f16) return reduce_wide<float16, float>(transfer, how);
  if (transfer.type == DType::bf16) return reduce_wide<bfloat16, float>(transfer, how);
  if (transfer.type == DType::i8) return reduce_wide<std::int8_t, std::int32_t>(transfer, how);  // Open MPI 4.1 on AVX saturates sums of bytes
  if (transfer.type == DType::u8) return reduce_wide<std::uint8_t, std::int32_t>(transfer, how);
  if (transfer.kind == Transfer::Kind::all_reduce) return all_reduce(transfer.out, transfer.count, transfer.type, transfer.how, how);
  const std::int64_t bytes = transfer.count * size_of(transfer.type);
  if (transfer.out != static_cast<const std::byte*>(transfer.in) + rank_ * bytes) return reduce_scatter(transfer.out, transfer.in, transfer.count, transfer.type, transfer.how, how);
  part_.resize(static_cast<std::size_t>(bytes));  // MPI does not write into what it reads
  reduce_scatter(part_.data(), transfer.in, transfer.count, transfer.type, transfer.how, how);
  if (bytes > 0) std::memcpy(transfer.out, part_.data(), part_.size());
}

/// Piece by piece, so that what is wide stays small.
template <class T, class Wide>
void MpiGroup::reduce_wide(const Transfer& transfer, How how) {
  const bool scatter = transfer.kind == Transfer::Kind::reduce_scatter;
  const std::int64_t parts = scatter ? size() : 1, most = std::max<std::int64_t>(1, (std::int64_t{1} << 20) / parts);
  const T* const in = static_cast<const T*>(scatter ? transfer.in : transfer.out);
  T* const out = static_cast<T*>(transfer.out);
  const std::int64_t piece = std::min(most, transfer.count);
  wide_.resize(static_cast<std::size_t>(piece * parts) * sizeof(Wide)), part_.resize(scatter ? static_cast<std::size_t>(piece) * sizeof(Wide) : 0);
  Wide* const wide = reinterpret_cast<Wide*>(wide_.data());
  Wide* const result = scatter ? reinterpret_cast<Wide*>(part_.data()) : wide;
  for (std::int64_t begin = 0; begin < transfer.count; begin += most) {
    const std::int64_t n = std::min(most, transfer.count - begin);
    for (std::int64_t part = 0; part < parts; ++part)
      for (std::int64_t i = 0; i < n; ++i) wide[part * n + i] = static_cast<Wide>(in[part * transfer.count + begin + i]);
    if (scatter) reduce_scatter(result, wide, n, dtype_of<Wide>(), transfer.how, how);
    else all_reduce(wide, n, dtype_of<Wide>(), transfer.how, how);
    for (std::int64_t i = 0; i < n; ++i) out[begin + i] = static_cast<T>(result[i]);
  }
}

}  // namespace golem
