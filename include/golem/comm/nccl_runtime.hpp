// NCCL as golem calls it: every call checked, none of them blocking, with an error that says what was attempted.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nccl.h>
#include <sched.h>
#include <time.h>

#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "golem/comm/backend.hpp"
#include "golem/comm/nccl_waits.hpp"
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

/// "2.28.3"; of the header, and of the library that was loaded.
inline std::string version_text(int code) { return sentence(code / 10000, '.', code / 100 % 100, '.', code % 100); }
inline std::string header_version() { return version_text(NCCL_VERSION_CODE); }
inline std::string library_version() {
  int version = 0;
  check(ncclGetVersion(&version), nullptr, "tell its version");
  return version_text(version);
}

/// Throws Error where the library that the program runs with is older than the header that it was compiled with, by more than its patch, or of another major version.
inline void check_version() {
  int version = 0;
  check(ncclGetVersion(&version), nullptr, "tell its version");
  require(version / 100 >= NCCL_VERSION_CODE / 100 && version / 10000 == NCCL_MAJOR, "this program was compiled with the header of NCCL ", header_version(), " and runs with the library of NCCL ", version_text(version), ": give it a library of the same version or a newer one");
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

/// A stream of its own.
class Stream {
 public:
  Stream() : stream_(cuda::runtime::create_stream()) {}
  ~Stream() { static_cast<void>(cudaStreamDestroy(stream_)); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_;
};

/// One communicator of this rank, with a stream of its own. The rank's thread makes transfers; state() and release() belong to any.
class Communicator {
 public:
  /// Begins to meet the other ranks that are given the same id; settle() waits for them.
  Communicator(const ncclUniqueId& id, int ranks, int rank, std::string_view axis) : under_way_(std::make_shared<TransfersUnderWay>(axis)) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    check(ncclCommInitRankConfig(&comm_, ranks, id, rank, &config), nullptr, "let rank ", rank, " of ", ranks, " meet the others");
  }
  ~Communicator() {  // failures have no one to go to here
    if (const ncclComm_t comm = release().comm) static_cast<void>(took_leave_ ? ncclCommDestroy(comm) : ncclCommAbort(comm));
  }
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  cudaStream_t stream() const { return stream_->get(); }

  /// How its last calls went: ncclInProgress while they are being worked on.
  ncclResult_t state() const {
    const std::lock_guard lock(mutex_);
    ncclResult_t status = ncclRemoteError;  // where it was released
    return !comm_ || ncclCommGetAsyncError(comm_, &status) == ncclSuccess ? status : ncclInternalError;
  }
  /// What NCCL says of the last error.
  std::string last_error() const {
    const std::lock_guard lock(mutex_);
    return comm_ ? ncclGetLastError(comm_) : "";
  }
  /// Waits, up to `seconds` (0: for ever), until the calls that were made are on the stream.
  ncclResult_t settle(double seconds = 0) const {
    const double start = steady_seconds();
    for (timespec pause{0, 50'000};;) {
      const ncclResult_t status = state();
      const double waited = steady_seconds() - start;
      if (status != ncclInProgress || (seconds > 0 && waited > seconds)) return status;
      if (waited < 200e-6) {  // a call takes some 5 us, and the shortest sleep of Linux 50
        sched_yield();
        continue;
      }
      nanosleep(&pause, nullptr);
      pause.tv_nsec = smaller<long>(2 * pause.tv_nsec, 1'000'000);
    }
  }
  const std::shared_ptr<TransfersUnderWay>& under_way() const { return under_way_; }
  /// Waits for its transfers and takes leave of the other ranks. Returns what keeps it from that, after which it is to be aborted; empty: nothing.
  std::string_view take_leave() {
    if (std::uncaught_exceptions() > exceptions_) return "this rank has left by an error";
    constexpr std::string_view failed = "a communicator has failed";
    if (state() != ncclSuccess) return failed;
    static_cast<void>(cudaStreamSynchronize(stream()));  // comes back by an abort, where a peer is gone
    {
      const std::lock_guard lock(mutex_);
      if (comm_) static_cast<void>(ncclCommFinalize(comm_));  // an error of it is the communicator's state too
    }
    const ncclResult_t status = settle(10);
    if (status == ncclInProgress) return "the other ranks did not take leave of a group within 10 seconds";
    if (status != ncclSuccess) return failed;
    took_leave_ = true;
    return {};
  }
  /// What is to be aborted, so that nobody waits on the device any more, and the stream that NCCL may use until then.
  struct Released {
    ncclComm_t comm;  // null the second time
    std::shared_ptr<const Stream> stream;
  };
  Released release() {
    const std::lock_guard lock(mutex_);
    return {std::exchange(comm_, nullptr), stream_};
  }

  /// Puts a transfer on the stream.
  void enqueue(const Transfer& t, int peer) {
    under_way_->add(t, stream(), [&] { capture(t, peer); });
  }
  /// Puts it into the graph that the stream is captured for: it is under way where that runs.
  void capture(const Transfer& t, int peer) {
    {
      const std::lock_guard lock(mutex_);
      check(comm_ ? call(t, peer) : ncclRemoteError, comm_, call_of(t));
    }
    check(settle(), nullptr, call_of(t));
  }

 private:
  ncclResult_t call(const Transfer& t, int peer) {
    using Kind = Transfer::Kind;
    const auto count = static_cast<std::size_t>(t.count);
    const ncclDataType_t type = type_of(t.type);
    const ncclRedOp_t how = t.how == Reduce::sum ? ncclSum : ncclMax;
    switch (t.kind) {
      case Kind::all_reduce: return ncclAllReduce(t.out, t.out, count, type, how, comm_, stream());
      case Kind::reduce_scatter: return ncclReduceScatter(t.in, t.out, count, type, how, comm_, stream());
      case Kind::all_gather: return ncclAllGather(t.in, t.out, count, type, comm_, stream());
      case Kind::broadcast: return ncclBroadcast(t.out, t.out, count, type, peer, comm_, stream());
      case Kind::send: return ncclSend(t.in, count, type, peer, comm_, stream());
      case Kind::receive: return ncclRecv(t.out, count, type, peer, comm_, stream());
      case Kind::barrier: case Kind::split: break;  // the host's
    }
    return ncclInvalidUsage;
  }

  const std::shared_ptr<const Stream> stream_ = std::make_shared<const Stream>();
  const std::shared_ptr<TransfersUnderWay> under_way_;
  mutable std::mutex mutex_;  // a communicator that is released is another's
  ncclComm_t comm_ = nullptr;
  const int exceptions_ = std::uncaught_exceptions();
  bool took_leave_ = false;
};

}  // namespace golem::nccl
