// MpiCollectives: the collectives of one MPI communicator, in MPI's blocking form or started and awaited without keeping a core busy.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "golem/comm/failure.hpp"
#include "golem/comm/mpi_session.hpp"
#include "golem/comm/reduction.hpp"

namespace golem {

/// Sums of f32, f64, i32 and i64 are MPI's own. What MPI has not, or not well, is reduced here in the order of ranks, as threads do it: f16
/// and bf16, in float and rounded once; bytes, whose sums Open MPI 4.1 saturates on AVX; the maximum of floats, which must keep a NaN.
class MpiCollectives {
 public:
  enum class Form : std::uint8_t { blocking, started };

  MpiCollectives(MpiSession& session, MPI_Comm comm, std::string_view axis) : session_(session), comm_(comm), axis_(axis) {
    mpi_check(MPI_Comm_rank(comm_, &rank_), "say the rank");
    mpi_check(MPI_Comm_size(comm_, &size_), "count the ranks");
  }
  int rank() const { return rank_; }
  int size() const { return size_; }

  /// The ranks compare what they call, 40 bytes each. MPI's blocking collectives do not meet its started ones: where one rank starts, all do.
  /// Returns every rank's call, or nothing where they are the same.
  std::vector<Transfer> compare(const Transfer& transfer, Form& form);
  /// What all ranks have agreed on.
  void run(const Transfer& transfer, Form form);

 private:
  void wait_idly(MPI_Request request) {
    for (int pause = 10;; pause = std::min(2 * pause, 500)) {
      int done = 0;
      mpi_check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "finish a collective on the ", axis_, " axis");
      if (done) return;
      if (session_.abandoned()) throw RunEnded("this rank is on its way out");
      usleep(static_cast<useconds_t>(pause));
    }
  }
  template <class Blocking, class Started>
  void call(Form form, const Blocking& blocking, const Started& started) {
    if (form == Form::blocking) return mpi_check(blocking(), "finish a collective on the ", axis_, " axis");
    MPI_Request request = MPI_REQUEST_NULL;
    mpi_check(started(&request), "start a collective on the ", axis_, " axis");
    wait_idly(request);
  }

  void reduce(const Transfer& transfer, Form form);
  template <class T>
  void reduce_in_order(const Transfer& transfer, Form form);

  MpiSession& session_;
  const MPI_Comm comm_;
  const std::string_view axis_;
  int rank_ = 0, size_ = 0;
  static constexpr std::int64_t small = 64 << 10;  // bytes from all ranks together that each of them may as well get whole
  static constexpr std::int64_t piece = 4 << 20;   // elements that are reduced in order at a time
  std::vector<std::byte> received_;
};

inline std::vector<Transfer> MpiCollectives::compare(const Transfer& transfer, Form& form) {
  using Kind = Transfer::Kind;
  const bool reduces = transfer.kind == Kind::all_reduce || transfer.kind == Kind::reduce_scatter;
  std::int64_t call = static_cast<std::int64_t>(transfer.kind) | static_cast<std::int64_t>(transfer.type) << 8;
  if (reduces) call |= static_cast<std::int64_t>(transfer.how) << 16;
  if (transfer.kind == Kind::broadcast) call |= static_cast<std::int64_t>(transfer.peer) << 24;
  std::int64_t most[]{call, transfer.count, -call, -transfer.count, static_cast<std::int64_t>(form)};
  MPI_Request request = MPI_REQUEST_NULL;
  mpi_check(MPI_Iallreduce(MPI_IN_PLACE, most, 5, MPI_INT64_T, MPI_MAX, comm_, &request), "compare the calls of the ranks of the ", axis_, " axis");
  if (form == Form::blocking)
    mpi_check(MPI_Wait(&request, MPI_STATUS_IGNORE), "compare the calls of the ranks of the ", axis_, " axis");
  else
    wait_idly(request);
  form = static_cast<Form>(most[4]);
  if (most[0] == -most[2] && most[1] == -most[3]) return {};
  const std::int64_t own[]{call, transfer.count};
  std::vector<std::int64_t> all(2 * static_cast<std::size_t>(size_));
  mpi_check(MPI_Allgather(own, 2, MPI_INT64_T, all.data(), 2, MPI_INT64_T, comm_), "gather the calls of the ranks of the ", axis_, " axis");
  std::vector<Transfer> calls;
  for (std::size_t i = 0; i < all.size(); i += 2)
    calls.push_back({.kind = static_cast<Kind>(all[i] & 255),
                     .count = all[i + 1],
                     .type = static_cast<DType>(all[i] >> 8 & 255),
                     .how = static_cast<Reduce>(all[i] >> 16 & 255),
                     .peer = static_cast<int>(all[i] >> 24)});
  return calls;
}

inline void MpiCollectives::run(const Transfer& transfer, Form form) {
  const MPI_Datatype type = mpi_type(transfer.type);
  const std::int64_t bytes = transfer.count * size_of(transfer.type);
  switch (transfer.kind) {
    case Transfer::Kind::all_reduce:
    case Transfer::Kind::reduce_scatter:
      return reduce(transfer, form);
    case Transfer::Kind::all_gather: {
      const int n = mpi_count(transfer.count);
      const void* const in = transfer.in == static_cast<std::byte*>(transfer.out) + rank_ * bytes ? MPI_IN_PLACE : transfer.in;
      return call(
          form, [&] { return MPI_Allgather(in, n, type, transfer.out, n, type, comm_); },
          [&](MPI_Request* r) { return MPI_Iallgather(in, n, type, transfer.out, n, type, comm_, r); });
    }
    case Transfer::Kind::broadcast: {
      const int n = mpi_count(transfer.count);
      return call(
          form, [&] { return MPI_Bcast(transfer.out, n, type, transfer.peer, comm_); },
          [&](MPI_Request* r) { return MPI_Ibcast(transfer.out, n, type, transfer.peer, comm_, r); });
    }
    default:
      return;  // a barrier: the ranks have met over their calls
  }
}

inline void MpiCollectives::reduce(const Transfer& transfer, Form form) {
  const bool floats = transfer.type == DType::f32 || transfer.type == DType::f64;
  if (size_of(transfer.type) < 4 || (floats && transfer.how == Reduce::max))
    return with_element(transfer.type, [&]<class T>(T) { reduce_in_order<T>(transfer, form); });
  const MPI_Datatype type = mpi_type(transfer.type);
  const MPI_Op op = transfer.how == Reduce::sum ? MPI_SUM : MPI_MAX;
  const int n = mpi_count(transfer.count);
  if (transfer.kind == Transfer::Kind::all_reduce)
    return call(
        form, [&] { return MPI_Allreduce(MPI_IN_PLACE, transfer.out, n, type, op, comm_); },
        [&](MPI_Request* r) { return MPI_Iallreduce(MPI_IN_PLACE, transfer.out, n, type, op, comm_, r); });
  const std::int64_t bytes = transfer.count * size_of(transfer.type);
  const bool in_place = transfer.out == static_cast<const std::byte*>(transfer.in) + rank_ * bytes;
  if (in_place) received_.resize(static_cast<std::size_t>(bytes));  // MPI does not write into what it reads
  void* const to = in_place ? received_.data() : transfer.out;
  call(
      form, [&] { return MPI_Reduce_scatter_block(transfer.in, to, n, type, op, comm_); },
      [&](MPI_Request* r) { return MPI_Ireduce_scatter_block(transfer.in, to, n, type, op, comm_, r); });
  if (in_place && bytes > 0) std::memcpy(transfer.out, to, static_cast<std::size_t>(bytes));
}

/// Every rank gets its slice from all the others, reduces it, and, in an all-reduce, hands the result on: as many bytes as a ring moves.
/// What is small everybody gets whole. A piece at a time, so that what the others sent stays small.
template <class T>
void MpiCollectives::reduce_in_order(const Transfer& transfer, Form form) {
  const bool scatter = transfer.kind == Transfer::Kind::reduce_scatter;
  const MPI_Datatype type = mpi_type(transfer.type);
  const std::int64_t most = scatter ? std::max<std::int64_t>(1, piece / size_) : piece;
  const T* const in = static_cast<const T*>(scatter ? transfer.in : transfer.out);
  T* const out = static_cast<T*>(transfer.out);
  std::vector<const void*> from(static_cast<std::size_t>(size_));
  const auto reduce_received = [&](T* to, std::int64_t n) {
    for (std::size_t rank = 0; rank < from.size(); ++rank)
      from[rank] = received_.data() + static_cast<std::int64_t>(rank) * n * std::int64_t{sizeof(T)};
    void* const result[]{to};
    reduce_elements<T>(result, from, 0, n, transfer.how);
  };
  for (std::int64_t begin = 0; begin < transfer.count; begin += most) {
    const std::int64_t n = std::min(most, transfer.count - begin);
    const bool whole = !scatter && n * size_ * std::int64_t{sizeof(T)} <= small;
    const std::int64_t slice = scatter || whole ? n : (n + size_ - 1) / size_;
    received_.resize(static_cast<std::size_t>(slice * size_) * sizeof(T));
    void* const all = received_.data();
    if (whole) {
      const int count = static_cast<int>(n);
      call(
          form, [&] { return MPI_Allgather(out + begin, count, type, all, count, type, comm_); },
          [&](MPI_Request* r) { return MPI_Iallgather(out + begin, count, type, all, count, type, comm_, r); });
      reduce_received(out + begin, n);
      continue;
    }
    std::vector<int> counts, at, own_counts, own_at;
    for (int rank = 0; rank < size_; ++rank) {
      const std::int64_t first = scatter ? rank * transfer.count + begin : std::min(n, rank * slice);
      counts.push_back(static_cast<int>(scatter ? n : std::min(n, first + slice) - first)), at.push_back(mpi_count(first));
    }
    const auto mine = static_cast<std::size_t>(rank_);
    for (int rank = 0; rank < size_; ++rank) own_counts.push_back(counts[mine]), own_at.push_back(rank * counts[mine]);
    const T* const send = scatter ? in : in + begin;
    call(
        form, [&] { return MPI_Alltoallv(send, counts.data(), at.data(), type, all, own_counts.data(), own_at.data(), type, comm_); },
        [&](MPI_Request* r) { return MPI_Ialltoallv(send, counts.data(), at.data(), type, all, own_counts.data(), own_at.data(), type, comm_, r); });
    reduce_received(out + begin + (scatter ? 0 : at[mine]), counts[mine]);
    if (scatter) continue;
    call(
        form, [&] { return MPI_Allgatherv(MPI_IN_PLACE, 0, type, out + begin, counts.data(), at.data(), type, comm_); },
        [&](MPI_Request* r) { return MPI_Iallgatherv(MPI_IN_PLACE, 0, type, out + begin, counts.data(), at.data(), type, comm_, r); });
  }
}

}  // namespace golem
