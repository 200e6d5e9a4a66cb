// Environment: which launcher started this process, as which of how many ranks; and the ways of communicating that are included.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "golem/comm/backend.hpp"
#include "golem/core/error.hpp"
#include "golem/core/function_ref.hpp"

namespace golem {

struct Environment {
  enum class Launcher : std::uint8_t { none, mpi, slurm, torchrun };
  static constexpr std::size_t launchers = 4;
  Launcher launcher = Launcher::none;
  int rank = 0, ranks = 1;
};

constexpr const char* name_of(Environment::Launcher launcher) {
  constexpr const char* names[]{"no launcher", "mpirun", "Slurm", "torchrun"};
  return names[static_cast<int>(launcher)];
}

/// The header that a program includes to be started by a launcher.
constexpr const char* header_for(Environment::Launcher launcher) {
  return launcher == Environment::Launcher::torchrun ? "golem/comm/tcp.hpp" : "golem/comm/mpi.hpp";
}

/// Reads the variables that launchers set: Open MPI's, those of PMI (MPICH, Intel MPI), Slurm's, torchrun's. `get` is std::getenv, or a test's.
/// Throws Error where a pair is half there or no numbers.
inline Environment read_environment(function_ref<const char*(const char*)> get) {
  struct Pair {
    Environment::Launcher launcher;
    const char *rank, *ranks;
  };
  using Launcher = Environment::Launcher;
  constexpr Pair pairs[]{{Launcher::mpi, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                         {Launcher::mpi, "PMI_RANK", "PMI_SIZE"},
                         {Launcher::torchrun, "RANK", "WORLD_SIZE"},
                         {Launcher::slurm, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"}};  // not SLURM_NTASKS, which the whole allocation has
  const auto number = [&](const char* name) {
    const char* const text = get(name);
    require(text != nullptr, "the environment has no ", name, ", though it has the variable that goes with it: start all ranks with one launcher");
    const std::string_view digits = text;
    int value = -1;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    require(error == std::errc() && end == digits.data() + digits.size() && value >= 0, "the environment's ", name, " is '", digits,
            "', which is no number of ranks");
    return value;
  };
  for (const Pair& pair : pairs) {
    if (!get(pair.ranks)) continue;
    if (pair.launcher == Launcher::slurm && (!get("SLURM_STEP_ID") || number(pair.ranks) == 1)) continue;  // sbatch's script or salloc's shell, which have a SLURM_PROCID too
    if (pair.launcher == Launcher::torchrun && !get("MASTER_ADDR")) continue;                              // anybody's variables
    const Environment found{pair.launcher, number(pair.rank), number(pair.ranks)};
    require(found.rank < found.ranks, "the environment says rank ", found.rank, " of ", found.ranks, " (", pair.rank, ", ", pair.ranks,
            "): ranks count from 0");
    return found;
  }
  return {};
}
inline Environment read_environment() {
  return read_environment([](const char* name) -> const char* { return std::getenv(name); });
}

/// Which of the ranks on its own machine a launcher started this process as: the number of its GPU. -1 where none says.
inline int local_rank(function_ref<const char*(const char*)> get) {
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "LOCAL_RANK", "SLURM_LOCALID"}) {
    const char* const text = get(name);
    if (!text) continue;
    const std::string_view digits = text;
    int value = -1;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    require(error == std::errc() && end == digits.data() + digits.size() && value >= 0, "the environment's ", name, " is '", digits, "', which is no rank on this machine");
    return value;
  }
  return -1;
}
inline int local_rank() {
  return local_rank([](const char* name) -> const char* { return std::getenv(name); });
}

struct LaunchOptions {
  double deadline = 600;  // seconds that a rank may work at one thing, or all ranks wait, before the run counts as stalled; 0: for ever
};

/// Starts communication in a process that a launcher has started: a group over all ranks.
using StartRanks = std::shared_ptr<Backend> (*)(const LaunchOptions&);

/// The way to start under each launcher; null where the header that has it is not included.
inline StartRanks& start_under(Environment::Launcher launcher) {
  static std::array<StartRanks, Environment::launchers> starts{};
  return starts[static_cast<std::size_t>(launcher)];
}

/// The group of all ranks that the environment asks for: null for one rank. Throws Error where the header that it needs is not included.
inline std::shared_ptr<Backend> start_ranks(const Environment& here, const LaunchOptions& options) {
  const StartRanks start = start_under(here.launcher);
  if (here.ranks == 1 && !start) return nullptr;
  require(start != nullptr, name_of(here.launcher), " started this process as rank ", here.rank, " of ", here.ranks,
          ", and the program cannot talk to the others: include <", header_for(here.launcher), "> in it, or start it alone");
  auto backend = start(options);
  if (backend->size() != here.ranks)  // not thrown: what was started would tell only that it was left
    backend->end_run(sentence(name_of(here.launcher), " started this process as rank ", here.rank, " of ", here.ranks, ", but ", backend->size(),
                              " came up: start it with the mpirun of the MPI that it is linked with, or with srun --mpi=pmix"));
  return backend;
}

}  // namespace golem
