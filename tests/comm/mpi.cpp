// Ranks that are processes and talk through MPI, started by mpirun.
// SPDX-License-Identifier: Apache-2.0
#include "golem/comm/mpi.hpp"

#include "comm/process_ranks.hpp"

int main(int count, char** words) { return process_ranks::run_as_ranks(count, words); }
