// How destructors of a rank that leaves by an error get its GPU back from kernels that wait for other ranks.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <exception>
#include <mutex>
#include <vector>

#include "golem/cuda/runtime.hpp"

namespace golem::cuda {

/// Known while it lives, to all threads: who can end what `stream` waits for of other ranks, by release(owner).
class WayOut {
 public:
  WayOut(cudaStream_t stream, void* owner, void (*release)(void* owner)) : stream_(stream), owner_(owner), release_(release) {
    const std::lock_guard lock(known().mutex);
    known().all.push_back(this);
  }
  ~WayOut() {
    const std::lock_guard lock(known().mutex);
    std::erase(known().all, this);
  }
  WayOut(const WayOut&) = delete;
  WayOut& operator=(const WayOut&) = delete;

  static void release(cudaStream_t stream) {
    const std::lock_guard lock(known().mutex);
    for (const WayOut* one : known().all)
      if (one->stream_ == stream) one->release_(one->owner_);
  }

 private:
  struct Known {
    std::mutex mutex;
    std::vector<WayOut*> all;
  };
  static Known& known() {
    static Known known;
    return known;
  }

  cudaStream_t stream_;
  void* owner_;
  void (*release_)(void* owner);
};

/// What is told by destructors that wait for a GPU: whether an error is on its way out that was not when their object was made.
class ByError {
 public:
  explicit operator bool() const { return std::uncaught_exceptions() > before_; }

 private:
  int before_ = std::uncaught_exceptions();
};

/// Waits for a stream in a destructor, where failures have no one to go to. What an error leaves there may wait for ranks that never come,
/// since they learn of the error only once it is out: after two seconds that is ended.
inline void finish_on_way_out(cudaStream_t stream, const ByError& by_error) {
  if (by_error && !runtime::ends_within(std::chrono::seconds(2), stream)) WayOut::release(stream);
  static_cast<void>(cudaStreamSynchronize(stream));
}

}  // namespace golem::cuda
