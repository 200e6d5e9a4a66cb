// How the ranks of a program start: each with its command line, which they compare, so that what is wrong with it is told once.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "device.hpp"
#include "golem/comm/environment.hpp"
#include "golem/comm/launch.hpp"
#include "golem/comm/world.hpp"

namespace examples {

struct CommandLine {
  bool ends = false;  // the program, at once, with this status
  int status = 0;
  std::string refused = {};  // why this rank cannot take it; to be thrown where the other ranks learn of it
};

// Reads the options. A rank that a launcher started says nothing by itself: the others may have been given other words. But where what
// the launcher said makes no sense, there are no others to be found.
inline CommandLine read_command_line(CLI::App& app, int argc, char** argv, golem::Layout& layout) {
  golem::Environment here;
  try {
    here = golem::read_environment();
  } catch (const golem::Error& error) {
    const std::string program = argc > 0 ? argv[0] : "";
    std::fprintf(stderr, "%s: %s\n", program.substr(program.rfind('/') + 1).c_str(), error.what());
    return {.ends = true, .status = 1};
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const bool is_wrong = error.get_exit_code() != 0;  // else it asks for help
    if (here.ranks > 1 && is_wrong) {
      layout = {.dp = here.ranks};
      return {.refused = golem::sentence(error.what(), "; --help lists the options")};
    }
    return {.ends = true, .status = here.rank == 0 ? app.exit(error) : 0};
  }
  return {};
}

// Ranks on this machine, of `ranks` in all: the processes that a launcher says it started here, none where it does not say; or threads, all of them.
inline std::optional<int> ranks_here(int ranks) {
  if (golem::read_environment().ranks == 1) return ranks;
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "LOCAL_WORLD_SIZE", "SLURM_STEP_TASKS_PER_NODE"})
    if (const char* const text = std::getenv(name)) return std::max(1, std::atoi(text));  // Slurm's is a list, "4(x2),3", of which the first will do
  return std::nullopt;
}

// Threads of one rank of so many: what was asked for, else OMP_NUM_THREADS, else its share of the machine.
inline int threads_of(int asked, int ranks) {
  if (asked > 0) return asked;
  if (const char* given = std::getenv("OMP_NUM_THREADS")) return std::max(1, std::atoi(given));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / ranks_here(ranks).value_or(ranks));
}

// Starts a program's ranks: all compare what they were given by agree(world), and do what choose() returns. What choose() throws, all
// ranks find alike: it is no one's failure, and is told once. The program's status.
template <class Agree, class Choose>
int run_program(const char* name, const CommandLine& line, const golem::Layout& layout, double deadline, Agree agree, Choose choose) {
  const auto body = [&](golem::World& world) {
    golem::require(line.refused.empty(), line.refused);
    agree(world);
    std::function<void(golem::World&)> job;
    try {
      job = choose();
    } catch (const golem::Error& error) {
      world.all().end_run(error.what());
    }
    job(world);
  };
  try {
    golem::run_world(layout, body, {.deadline = deadline});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", program_name(name).c_str(), error.what());
    return 1;
  }
  return 0;
}

}  // namespace examples
