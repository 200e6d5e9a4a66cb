// Runs a kernel block by block, each of its threads a fiber, with barriers that count arrivals and warps that act together.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <string>

namespace simt {

/// The order in which threads and blocks run is drawn from `seed`; 0: ascending. With an odd seed all threads move on
/// together, in a new order each round; with an even one a warp runs as far ahead of the others as barriers let it,
/// and boxes of tensors arrive as late as can be.
void set_order(std::uint64_t seed);

struct Call {
  std::string name;
  dim3 grid, block;
  std::size_t shared_bytes = 0;
  std::function<void()> thread;  // the kernel with its arguments
  const void* kernel = nullptr;
  bool early = false;  // before the kernels before it have ended
};

/// Runs all blocks. Throws std::runtime_error where threads wait for each other in vain, and the like: which kernel, block,
/// threads and barriers.
void run_kernel(const Call& call);

// What follows is called by the threads of a running kernel.

int current_thread();
void* shared_memory();

/// Waits at barrier `number` until `count` threads have come; 0: all threads that have not ended. Returns whether any of them
/// gave `vote`.
bool meet(int number, int count, bool vote, const std::source_location& where);

/// Waits until every lane of `mask` calls with the same `what` and mask. The last one runs `complete(requests)`, where
/// requests[i] is what lane i gave.
using Complete = void (*)(void* const (&requests)[32], unsigned mask);
void act_together(const char* what, unsigned mask, void* request, Complete complete, const std::source_location& where);

/// Waits until `ready()`; `situation` is what a report says of it, and `where` from whom.
void wait_until(std::function<bool()> ready, std::string situation, const std::source_location& where);

/// Lets others go on for so many rounds.
void pause(int rounds);

/// Ends the run: what is wrong, with kernel and block.
[[noreturn]] void complain(const std::string& what);

/// A kernel that may be started while others run waits for them. Each thread of golem's kernels does, before it ends.
void begin_kernel();

/// Ends the run, as a trap does, where the program was compiled for an architecture below `least`, 80 for 8.0.
void require_architecture(int least);

/// A copy to shared memory that happens only when it is waited for; until then its destination is poison.
void defer_copy(void* to, const void* from, std::size_t bytes);
void commit_copies();
void wait_for_copies(int pending_groups);

}  // namespace simt
