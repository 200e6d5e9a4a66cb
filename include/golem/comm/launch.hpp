// run_world: a program's work on all ranks of a layout: in this thread, in threads, or in the processes that a launcher started.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>

#include "golem/comm/environment.hpp"
#include "golem/comm/threads.hpp"
#include "golem/comm/world.hpp"

namespace golem {

/// Calls body with this rank's place in the layout. Where a launcher (mpirun, srun) has started this process as one of several, each
/// process is a rank; else ranks are threads of this process. Where a rank fails, all end: of threads, the caller gets the one Error;
/// processes end, after one of them has printed the sentence to standard error.
inline void run_world(const Layout& layout, function_ref<void(World&)> body, const RanksOptions& options = {}) {
  const Environment here = read_environment();
  if (here.ranks == 1 && layout.ranks() > 1)
    return run_ranks(
        layout.ranks(),
        [&](Group all) {
          World world(std::move(all), layout);
          body(world);
        },
        options);
  World world = World::from_env(layout, {.deadline = options.deadline});
  try {
    body(world);
  } catch (const std::exception& error) {
    if (world.all().backend()) world.all().backend()->fail_rank(error);
    throw;
  }
}

}  // namespace golem
