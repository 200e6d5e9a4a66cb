// Watch: what one rank does now, noted by the rank and read by whoever has to say why a run ended.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <time.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string_view>
#include <utility>

#include "golem/comm/backend.hpp"

namespace golem {

/// Seconds on a clock that only goes forward, the same for all processes of a machine.
inline double steady_seconds() {
  timespec now{};  // <chrono> would cost each file that includes this half a second
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// A short text of fixed size: what is longer is cut off.
template <int capacity>
struct ShortText {
  std::array<char, capacity> characters{};

  ShortText() = default;
  ShortText(std::string_view text) {
    const std::size_t length = text.size() < capacity - 1 ? text.size() : capacity - 1;
    std::memcpy(characters.data(), text.data(), length);
  }
  std::string_view view() const { return {characters.data(), strnlen(characters.data(), capacity - 1)}; }
};

/// What a rank does now; plain bytes, so that it can be sent as it lies.
struct Doing {
  enum class State : std::uint8_t { working, waiting, finished, stopped };  // stopped: said of a rank by others, which see that it does not run

  State state = State::working;
  Transfer::Kind kind = Transfer::Kind::barrier;  // of the transfer waited for
  std::int32_t peer = -1;                         // rank in the world that it is waited for; -1: a collective
  std::int64_t bytes = 0;                         // payload of the transfer
  std::int64_t step = -1;                         // -1: none was noted yet
  double since = 0;                               // steady_seconds() of the last change
  ShortText<64> activity;                         // "forward of micro-batch 3"
  ShortText<16> axis;                             // "tensor"
};

/// The notes of one rank. note(), begin(), end() and finish() belong to the rank's own thread; the others to any. Some 50 ns each.
class Watch {
 public:
  Watch() { doing_.since = steady_seconds(); }
  virtual ~Watch() = default;
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  void note(std::int64_t step, std::string_view activity) {
    change([&](Doing& doing) {
      doing.step = step, doing.activity = activity;
      if (std::exchange(on_device_, false)) doing.state = Doing::State::working;
    });
  }
  /// The rank waits for a transfer from here to end().
  void begin(const Transfer& transfer, std::string_view axis, int peer) {
    change([&](Doing& doing) { wait_for(doing, transfer, axis, peer), on_device_ = false; });
  }
  void end() {
    change([&](Doing& doing) { doing.state = Doing::State::working, on_device_ = false; });
  }
  void finish() {
    change([&](Doing& doing) { doing.state = Doing::State::finished, on_device_ = false; });
  }
  /// The rank's device waits for a transfer, as another thread sees, from here to end_on_device() or until the rank says something else.
  void begin_on_device(const Transfer& transfer, std::string_view axis, int peer) {
    change_if(Doing::State::working, [&](Doing& doing) { wait_for(doing, transfer, axis, peer), on_device_ = true; });
  }
  void end_on_device() {
    change_if(Doing::State::waiting, [&](Doing& doing) {
      if (std::exchange(on_device_, false)) doing.state = Doing::State::working;
    });
  }
  Doing now() const {
    const std::lock_guard lock(mutex_);
    return doing_;
  }

 private:
  /// A way of communicating whose ranks are processes tells it on; called with the notes locked.
  virtual void tell(const Doing&) {}

  static void wait_for(Doing& doing, const Transfer& transfer, std::string_view axis, int peer) {
    doing.state = Doing::State::waiting, doing.kind = transfer.kind, doing.peer = peer;
    doing.bytes = transfer.count * size_of(transfer.type), doing.axis = axis;
  }

  template <class Change>
  void change(const Change& what) {
    const std::lock_guard lock(mutex_);
    what(doing_);
    doing_.since = steady_seconds();
    tell(doing_);
  }
  /// Where the state is `now`, and is another then.
  template <class Change>
  void change_if(Doing::State now, const Change& what) {
    const std::lock_guard lock(mutex_);
    if (doing_.state != now) return;
    what(doing_);
    if (doing_.state == now) return;
    doing_.since = steady_seconds();
    tell(doing_);
  }

  mutable std::mutex mutex_;
  Doing doing_;
  bool on_device_ = false;  // what it waits for was told by another thread
};

/// While it lives, its rank waits for a transfer.
class Waiting {
 public:
  Waiting(Watch& watch, const Transfer& transfer, std::string_view axis, int peer) : watch_(watch) { watch_.begin(transfer, axis, peer); }
  ~Waiting() { watch_.end(); }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  Watch& watch_;
};

}  // namespace golem
