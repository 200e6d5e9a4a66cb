// BackgroundSaver: checkpoints written by a thread while training goes on; what training waits for is the copy of its tensors.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <utility>

#include "golem/core/error.hpp"
#include "golem/core/stateful.hpp"
#include "golem/io/checkpoint_contents.hpp"
#include "golem/io/checkpoint_writer.hpp"

namespace golem {

/// What a save cost the thread that asked for it.
struct SavePause {
  double waited_seconds = 0;  // for the save before
  double copied_seconds = 0;  // for the copy of the tensors that this rank owns
  double begun_seconds = 0;   // for the folder of the new one, and for the other ranks to come so far
  std::uint64_t bytes = 0;    // of the copy
  double seconds() const { return waited_seconds + copied_seconds + begun_seconds; }
};

/// One for each rank; ranks may be threads or processes. A save's error is thrown by the next call, and by the destructor if there is none: so end a
/// run with wait(). The copy's memory, as large as the tensors that this rank owns, is kept from save to save.
class BackgroundSaver {
 public:
  BackgroundSaver() = default;
  BackgroundSaver(const BackgroundSaver&) = delete;
  BackgroundSaver& operator=(const BackgroundSaver&) = delete;
  /// Waits. Throws the error of the last save, unless another one is on its way already: then it is told on stderr.
  ~BackgroundSaver() noexcept(false) {
    join();
    if (!failure_) return;
    if (std::uncaught_exceptions() == exceptions_) std::rethrow_exception(failure_);
    try {
      std::rethrow_exception(failure_);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
    }
  }

  /// golem::save, in the background: returns when the state has been copied and may change. The barrier is called by this thread; on_file by the
  /// other one as well, so what it refers to must live until the save is done. Throws Error as CheckpointSave does, and the error of the save before.
  template <Stateful S>
  SavePause save(const std::string& root, std::int64_t step, S& state, const CheckpointOptions& options = {}) {
    SavePause pause;
    auto start = Clock::now();
    join();
    pause.waited_seconds = since(start);
    start = Clock::now();
    checkpoint::Collector collector;
    state.visit_state(collector);
    auto failure = std::exchange(failure_, nullptr);
    try {
      pause.bytes = copy(collector.contents);
    } catch (const Error&) {  // to be thrown behind the barrier at which the other ranks wait
      if (!failure) failure = std::current_exception();
    }
    pause.copied_seconds = since(start);
    start = Clock::now();
    auto checkpoint = std::make_unique<CheckpointSave>(root, step, options, std::move(failure));
    pause.begun_seconds = since(start);
    writer_ = std::thread([this, checkpoint = std::move(checkpoint), contents = std::move(collector.contents)]() mutable {
      const auto writing = Clock::now();
      try {
        checkpoint->finish(std::move(contents));
      } catch (...) {
        failure_ = std::current_exception();
      }
      checkpoint.reset();
      write_seconds_ = since(writing);
    });
    return pause;
  }

  /// Waits until the last save is done. Throws its error.
  void wait() {
    join();
    if (auto failure = std::exchange(failure_, nullptr)) std::rethrow_exception(failure);
  }

  /// How long the thread of the last save took, once it is done: waits for it.
  double write_seconds() {
    join();
    return write_seconds_;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

  void join() {
    if (writer_.joinable()) writer_.join();
  }

  /// Copies the tensors that this rank saves, and points to the copies. Their bytes.
  std::uint64_t copy(CheckpointContents& contents) {
    std::size_t bytes = 0;
    for (const TensorState& tensor : contents.tensors) bytes += tensor.owned ? tensor.bytes : 0;
    if (bytes > capacity_) {
      memory_.reset(), capacity_ = 0;
      memory_.reset(new (std::nothrow) std::byte[bytes]);
      require(memory_ != nullptr, "there is no memory to copy ", bytes >> 20, " MiB of a checkpoint to while it is written: save in the foreground (golem::save), or on more ranks");
      capacity_ = bytes;
    }
    std::byte* to = memory_.get();
    for (TensorState& tensor : contents.tensors) {
      if (!tensor.owned || tensor.bytes == 0) continue;
      tensor.data = std::memcpy(to, tensor.data, tensor.bytes);
      to += tensor.bytes;
    }
    return bytes;
  }

  const int exceptions_ = std::uncaught_exceptions();
  std::unique_ptr<std::byte[]> memory_;
  std::size_t capacity_ = 0;
  double write_seconds_ = 0;
  std::exception_ptr failure_;
  std::thread writer_;
};

}  // namespace golem
