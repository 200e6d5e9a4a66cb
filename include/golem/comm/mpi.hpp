// Ranks that are processes, started by mpirun or srun: including this lets World::from_env() and run_world() start under them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "golem/comm/environment.hpp"
#include "golem/comm/group.hpp"
#include "golem/comm/mpi_group.hpp"
#include "golem/comm/mpi_session.hpp"

namespace golem {

/// All ranks of MPI_COMM_WORLD as a group. Call it once, early in the program. MPI ends with the last copy of the group or a part of it.
/// Beside MPI's own connections, each rank's companion opens one to rank 0's machine: at its first address that is not its own loop, or, where
/// several networks are there (docker0, say), at that of the interface which the environment's GOLEM_INTERFACE names: `mpirun -x GOLEM_INTERFACE=eth0`.
inline std::shared_ptr<Backend> start_mpi(const LaunchOptions& options) {
  auto session = std::make_shared<MpiSession>(options);
  MPI_Comm comm = MPI_COMM_NULL;
  mpi_check(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "duplicate the world");
  return std::make_shared<MpiGroup>(std::move(session), comm, "world");
}

/// Registers start_mpi with the launchers that it works under.
inline const bool mpi_is_included = [] {
  start_under(Environment::Launcher::mpi) = start_under(Environment::Launcher::slurm) = start_mpi;
  return true;
}();

}  // namespace golem
