// cpu::Device: a number of threads, an instruction set, memory with an account, and scratch space for ops.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string_view>
#include <thread>
#include <vector>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include "golem/core/error.hpp"
#include "golem/core/function_ref.hpp"
#include "golem/core/math.hpp"
#include "golem/core/memory.hpp"
#include "golem/cpu/flush_subnormals.hpp"
#include "golem/cpu/isa.hpp"
#include "golem/version.hpp"

namespace golem::cpu {
inline namespace GOLEM_ABI {
inline namespace GOLEM_THREADS {

/// The CPU engine. Ops take it first and run on its threads; not to be used by two threads at once. Results do not
/// depend on `threads`: each op cuts its work in pieces whose sizes do not, and adds them in a fixed order.
class Device {
 public:
  struct Options {
    int threads = 0;         // 0: all that the machine has
    Isa isa = detect_isa();  // tests lower it to reach every path
  };

  Device() : Device(Options{}) {}
  explicit Device(Options options) : isa_(options.isa), threads_(options.threads > 0 ? options.threads : static_cast<int>(std::thread::hardware_concurrency())) {
    if (threads_ < 1) threads_ = 1;
    const int most = larger(1024, static_cast<int>(std::thread::hardware_concurrency()));  // OpenMP ends the process where it cannot start what it is asked for
    require(threads_ <= most, "cpu::Device was asked for ", threads_, " threads: ask for at most ", most, ", or for 0, which is all that the machine has");
    require(isa_ <= detect_isa(), "cpu::Device was asked for ", name_of(isa_), ", and this processor has ", name_of(detect_isa()), ": ask for that or less");
    scratch_.resize(static_cast<std::size_t>(threads_) + 1);
  }
  ~Device() {
    for (const Scratch& s : scratch_) std::free(s.memory);
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  /// Buffers may be read and written by the host directly.
  static constexpr bool host_memory = true;

  int threads() const { return threads_; }
  Isa isa() const { return isa_; }
  MemoryAccount& memory() { return memory_; }

  /// 64-byte aligned. Throws Error that says who holds how much where there is none left.
  void* allocate(std::size_t bytes, std::string_view label) {
    void* memory = std::aligned_alloc(64, static_cast<std::size_t>(round_up(static_cast<std::int64_t>(bytes), 64)));
    require(memory != nullptr, "out of memory: ", bytes >> 20, " MiB were asked for '", label, "' while golem holds ", memory_.summary(),
            "; use a smaller batch, recomputation or fewer bits");
    memory_.add(label, static_cast<std::int64_t>(bytes));
    return memory;
  }
  void release(void* memory, std::size_t bytes, std::string_view label) {
    std::free(memory);
    memory_.add(label, -static_cast<std::int64_t>(bytes));
  }
  // Null is a place for nothing, though not to the C library.
  void copy_in(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes); }
  void copy_out(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes); }
  void copy(void* to, const void* from, std::size_t bytes) {
    if (bytes > 0) std::memmove(to, from, bytes);
  }
  /// `count` pieces of `bytes`, which begin every `pitch` bytes there and here.
  void copy_pieces(void* to, const void* from, std::size_t bytes, std::size_t pitch, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) copy(static_cast<std::byte*>(to) + i * pitch, static_cast<const std::byte*>(from) + i * pitch, bytes);
  }
  void clear(void* memory, std::size_t bytes) {
    constexpr std::size_t piece = 1 << 20;
    if (bytes == 0) return;
    if (bytes <= piece) return static_cast<void>(std::memset(memory, 0, bytes));
    parallel(ceil_div(static_cast<std::int64_t>(bytes), static_cast<std::int64_t>(piece)), [&](std::int64_t i) {
      const std::size_t at = static_cast<std::size_t>(i) * piece;
      std::memset(static_cast<std::byte*>(memory) + at, 0, smaller(piece, bytes - at));
    });
  }
  void synchronize() {}

  /// Nothing is gained here by writing work down.
  struct Recording {};
  void replay(Recording&, std::int64_t, function_ref<void()> work, function_ref<void(function_ref<void()>)> = {}) { work(); }

  /// body(i) for i in [0, count), in contiguous runs. In it, subnormal results are 0. An error that it throws, memory that runs
  /// out say, is thrown when all are done; of several the first.
  template <class Body>
  void parallel(std::int64_t count, const Body& body) {
    FirstError error;
#if defined(_OPENMP)
#pragma omp parallel num_threads(threads_) if (count > 1 && threads_ > 1)
#endif
    {
      const FlushSubnormals flush;
#if defined(_OPENMP)
#pragma omp for schedule(static)
#endif
      for (std::int64_t i = 0; i < count; ++i) error.keep(body, i);
    }
    error.rethrow();
  }

  /// The same for pieces of uneven cost: each thread takes the next one when it is free.
  template <class Body>
  void parallel_uneven(std::int64_t count, const Body& body) {
    FirstError error;
#if defined(_OPENMP)
#pragma omp parallel num_threads(threads_) if (count > 1 && threads_ > 1)
#endif
    {
      const FlushSubnormals flush;
#if defined(_OPENMP)
#pragma omp for schedule(dynamic, 1)
#endif
      for (std::int64_t i = 0; i < count; ++i) error.keep(body, i);
    }
    error.rethrow();
  }

  /// The number of the calling thread inside `parallel`: 0 .. threads - 1.
  int thread() const {
#if defined(_OPENMP)
    return threads_ > 1 ? omp_get_thread_num() : 0;
#else
    return 0;
#endif
  }

  /// Memory of the calling thread that lasts until its next call; grows, never shrinks. Ask for it inside `parallel`.
  template <class T>
  T* scratch(std::int64_t count) {
    return static_cast<T*>(grow(scratch_[static_cast<std::size_t>(thread())], static_cast<std::size_t>(count) * sizeof(T)));
  }

  /// The same, one for all threads together: ask for it outside `parallel`. Separate from each thread's own.
  template <class T>
  T* shared_scratch(std::int64_t count) {
    return static_cast<T*>(grow(scratch_.back(), static_cast<std::size_t>(count) * sizeof(T)));
  }

 private:
  /// What the threads of a region throw: it may not leave the region.
  class FirstError {
   public:
    template <class Body>
    void keep(const Body& body, std::int64_t i) noexcept {
      try {
        body(i);
      } catch (...) {
        if (!taken_.exchange(true)) error_ = std::current_exception();
      }
    }
    void rethrow() const {
      if (error_) std::rethrow_exception(error_);
    }

   private:
    std::atomic<bool> taken_ = false;
    std::exception_ptr error_;
  };

  struct Scratch {
    void* memory = nullptr;
    std::size_t bytes = 0;
    char padding[48] = {};  // threads write their own entry: one cache line each
  };

  void* grow(Scratch& s, std::size_t bytes) {
    if (bytes <= s.bytes) return s.memory;
    if (s.memory) release(s.memory, s.bytes, "workspace");
    s = {};
    s.memory = allocate(bytes, "workspace");
    s.bytes = bytes;
    return s.memory;
  }

  Isa isa_;
  int threads_;
  MemoryAccount memory_;
  std::vector<Scratch> scratch_;
};

}  // namespace GOLEM_THREADS
}  // namespace GOLEM_ABI
}  // namespace golem::cpu
