// NCCL as golem calls it: every call checked, none of them blocking, with an error that says what was attempted.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nccl.h>
#include <time.h>

#include <atomic>
#include <string>
#include <string_view>
#include <utility>

#include "golem/comm/backend.hpp"
#include "golem/comm/watch.hpp"
#include "golem/core/math.hpp"
#include "golem/cuda/runtime.hpp"

namespace golem::nccl {

/// Throws Error unless `status` is success, or says that the call goes on in the background.
template <class... Parts>
void check(ncclResult_t status, ncclComm_t comm, const Parts&... parts) {
  if (status == ncclSuccess || status == ncclInProgress) [[likely]] return;
  const std::string_view last = ncclGetLastError(comm);
  fail("NCCL could not ", parts..., ": ", std::string_view(ncclGetErrorString(status)), last.empty() ? "" : ", ", last, " (NCCL_DEBUG=INFO tells more)");
}

/// Throws Error where the library that the program runs with is older than the header that it was compiled with, or of another major version.
inline void check_version() {
  int version = 0;
  check(ncclGetVersion(&version), nullptr, "tell its version");
  const auto written = [](int code) { return sentence(code / 10000, '.', code / 100 % 100, '.', code % 100); };
  require(version >= NCCL_VERSION_CODE && version / 10000 == NCCL_MAJOR, "this program was compiled with the header of NCCL ", written(NCCL_VERSION_CODE), " and runs with the library of NCCL ",
          written(version), ": give it a library of the same version or a newer one");
}

inline ncclUniqueId unique_id() {
  ncclUniqueId id;
  check(ncclGetUniqueId(&id), nullptr, "make the id of a communicator");
  return id;
}

inline ncclDataType_t type_of(DType type) {
  switch (type) {
    case DType::f64: return ncclFloat64;
    case DType::f32: return ncclFloat32;
    case DType::f16: return ncclFloat16;
    case DType::bf16: return ncclBfloat16;
    case DType::i64: return ncclInt64;
    case DType::i32: return ncclInt32;
    case DType::i8: return ncclInt8;
    default: return ncclUint8;
  }
}

/// One communicator of this rank, with a stream of its own. The rank's thread makes calls; state() and abort() belong to any.
class Communicator {
 public:
  /// Begins to meet the other ranks that are given the same id; ready() ends it.
  Communicator(const ncclUniqueId& id, int ranks, int rank) : ranks_(ranks), stream_(cuda::runtime::create_stream()) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    check(ncclCommInitRankConfig(&comm_, ranks, id, rank, &config), nullptr, "let rank ", rank, " of ", ranks, " meet the others");
  }
  ~Communicator() {  // failures have no one to go to here
    if (!aborted_ && state() == ncclSuccess && std::uncaught_exceptions() == exceptions_) {
      static_cast<void>(cudaStreamSynchronize(stream_));
      if (ncclCommFinalize(comm_) == ncclInProgress) settle(10);
      static_cast<void>(ncclCommDestroy(comm_));
    } else {
      abort();
    }
    static_cast<void>(cudaStreamDestroy(stream_));
  }
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int ranks() const { return ranks_; }
  cudaStream_t stream() const { return stream_; }
  ncclComm_t get() const { return comm_; }

  /// How its last calls went: ncclInProgress while they are being worked on.
  ncclResult_t state() const {
    ncclResult_t status = ncclSuccess;
    return ncclCommGetAsyncError(comm_, &status) == ncclSuccess ? status : ncclInternalError;
  }
  /// Waits, up to `seconds` (0: for ever), until the calls that were made are on the stream.
  ncclResult_t settle(double seconds = 0) const {
    const double start = steady_seconds();
    for (timespec pause{0, 1000};; pause.tv_nsec = smaller<long>(2 * pause.tv_nsec, 1'000'000)) {  // 1 us at first: a call takes some 5
      const ncclResult_t status = aborted_ ? ncclRemoteError : state();
      if (status != ncclInProgress || (seconds > 0 && steady_seconds() - start > seconds)) return status;
      nanosleep(&pause, nullptr);
    }
  }
  /// Ends what it does on the device, so that nobody waits for it any more.
  void abort() {
    if (!aborted_.exchange(true)) static_cast<void>(ncclCommAbort(comm_));
  }

  /// Puts a transfer on the stream.
  void enqueue(const Transfer& t, int peer) {
    using Kind = Transfer::Kind;
    const auto count = static_cast<std::size_t>(t.count);
    const ncclDataType_t type = type_of(t.type);
    const ncclRedOp_t how = t.how == Reduce::sum ? ncclSum : ncclMax;
    ncclResult_t status = ncclInvalidUsage;
    switch (t.kind) {
      case Kind::all_reduce: status = ncclAllReduce(t.out, t.out, count, type, how, comm_, stream_); break;
      case Kind::reduce_scatter: status = ncclReduceScatter(t.in, t.out, count, type, how, comm_, stream_); break;
      case Kind::all_gather: status = ncclAllGather(t.in, t.out, count, type, comm_, stream_); break;
      case Kind::broadcast: status = ncclBroadcast(t.out, t.out, count, type, peer, comm_, stream_); break;
      case Kind::send: status = ncclSend(t.in, count, type, peer, comm_, stream_); break;
      case Kind::receive: status = ncclRecv(t.out, count, type, peer, comm_, stream_); break;
      case Kind::barrier: break;  // the host's
    }
    check(status, comm_, call_of(t));
    check(settle(), comm_, call_of(t));
  }

 private:
  int ranks_;
  cudaStream_t stream_;
  ncclComm_t comm_ = nullptr;
  std::atomic<bool> aborted_{false};
  const int exceptions_ = std::uncaught_exceptions();
};

}  // namespace golem::nccl
