// CompanionPage: the memory that a rank's process shares with its companion, and what companions send to each other.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "golem/comm/watch.hpp"

namespace golem {

/// How a rank's process fares.
enum class Fate : std::uint32_t {
  running,
  finished,  // it left in peace
  stopped,   // it was told to stop by a signal from outside, as launchers do with all others once one has died
  cut_off,   // a transfer failed, most likely because another rank had died
  failed,    // it failed for a reason of its own
  died,      // its process is gone, and it said nothing
  parted     // the run is to end for a reason that is no single rank's
};

/// Where the companion of rank 0 listens, and for whom.
struct Meeting {
  std::int32_t rank = -1, ranks = 0;
  std::uint16_t port = 0;
  char host[64] = {};          // an address in numbers
  std::uint64_t password = 0;  // of this run
  double deadline = 0;
};

/// Written by the rank, read by its companion, also after the rank has died: so it is exact to the last note.
struct CompanionPage {
  std::atomic<std::uint32_t> version{0};  // odd while `doing` is being written
  Doing doing;
  std::atomic<Fate> fate{Fate::running};
  ShortText<1024> why;  // written before fate
  std::atomic<std::uint32_t> met{0};
  Meeting meeting;                          // written before met becomes 1
  std::atomic<std::uint32_t> connected{0};  // by the companion: 1 where it reached rank 0's, 2 where it did not
  std::atomic<std::uint32_t> judged{0};     // the reason has been told: whoever failed may end

  void write(const Doing& now) {
    const std::uint32_t before = version.load(std::memory_order_relaxed);
    version.store(before + 1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    doing = now;
    version.store(before + 2, std::memory_order_release);
  }
  /// Torn only where the rank died while it wrote.
  Doing read() const {
    Doing out;
    for (int attempt = 0; attempt < 1000; ++attempt) {
      const std::uint32_t before = version.load(std::memory_order_acquire);
      out = doing;
      std::atomic_thread_fence(std::memory_order_acquire);
      if (before % 2 == 0 && version.load(std::memory_order_relaxed) == before) break;
    }
    return out;
  }
};

/// What a companion tells that of rank 0; the same bytes on every machine of a run.
struct CompanionReport {
  std::uint64_t password = 0;
  std::int32_t rank = -1;
  Fate fate = Fate::running;
  double age = 0;  // seconds since the last change of `doing`
  Doing doing;
  ShortText<1024> why;
};

}  // namespace golem
