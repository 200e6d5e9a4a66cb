// What launchers say in the environment, and what a program that cannot follow them says.
// SPDX-License-Identifier: Apache-2.0
#include "golem/comm/environment.hpp"

#include <map>
#include <string>

#include "catch.hpp"
#include "golem/comm/launch.hpp"
#include "golem/comm/world.hpp"

using namespace golem;
using Catch::Matchers::Contains;

namespace {

Environment environment_of(const std::map<std::string, std::string>& variables) {
  return read_environment([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

}  // namespace

TEST_CASE("each launcher's variables are known") {
  using Launcher = Environment::Launcher;
  const auto is = [](const Environment& here, Launcher launcher, int rank, int ranks) {
    return here.launcher == launcher && here.rank == rank && here.ranks == ranks;
  };
  CHECK(is(environment_of({}), Launcher::none, 0, 1));
  CHECK(is(environment_of({{"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_COMM_WORLD_SIZE", "8"}}), Launcher::mpi, 3, 8));
  CHECK(is(environment_of({{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}}), Launcher::mpi, 0, 2));
  CHECK(is(environment_of({{"RANK", "1"}, {"WORLD_SIZE", "4"}, {"MASTER_ADDR", "node0"}}), Launcher::torchrun, 1, 4));
  CHECK(is(environment_of({{"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "767"}, {"SLURM_STEP_NUM_TASKS", "768"}, {"SLURM_NTASKS", "1024"}}), Launcher::slurm, 767, 768));
  CHECK(is(environment_of({{"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"}, {"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "2"}}), Launcher::mpi, 1,
           2));  // mpirun, which starts itself by srun
}

TEST_CASE("variables that mean something else are left alone") {
  CHECK(environment_of({{"RANK", "1"}, {"WORLD_SIZE", "4"}}).ranks == 1);
  CHECK(environment_of({{"SLURM_NTASKS", "4"}}).ranks == 1);
  CHECK(environment_of({{"SLURM_NTASKS", "8"}, {"SLURM_PROCID", "0"}}).ranks == 1);  // sbatch's script
  CHECK(environment_of({{"SLURM_STEP_ID", "4294967290"}, {"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_NTASKS", "8"}, {"SLURM_PROCID", "0"}}).launcher ==
        Environment::Launcher::none);  // salloc's shell, a step of its own
}

TEST_CASE("variables that make no sense are a sentence") {
  CHECK_THROWS_WITH(environment_of({{"OMPI_COMM_WORLD_SIZE", "8"}}), Contains("has no OMPI_COMM_WORLD_RANK"));
  CHECK_THROWS_WITH(environment_of({{"PMI_RANK", "one"}, {"PMI_SIZE", "8"}}), Contains("PMI_RANK is 'one', which is no number of ranks"));
  CHECK_THROWS_WITH(environment_of({{"PMI_RANK", "-1"}, {"PMI_SIZE", "8"}}), Contains("PMI_RANK is '-1'"));
  CHECK_THROWS_WITH(environment_of({{"PMI_RANK", "8"}, {"PMI_SIZE", "8"}}), Contains("rank 8 of 8"));
  CHECK_THROWS_WITH(environment_of({{"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "8"}}), Contains("has no SLURM_PROCID"));
}

TEST_CASE("where the environment asks for a header that is not included, the error names it") {
  CHECK_THROWS_WITH(start_ranks({Environment::Launcher::mpi, 1, 4}, {}),
                    Contains("mpirun started this process as rank 1 of 4") && Contains("include <golem/comm/mpi.hpp>"));
  CHECK_THROWS_WITH(start_ranks({Environment::Launcher::slurm, 1, 4}, {}), Contains("Slurm started") && Contains("<golem/comm/mpi.hpp>"));
  CHECK_THROWS_WITH(start_ranks({Environment::Launcher::torchrun, 1, 4}, {}), Contains("torchrun started") && Contains("<golem/comm/tcp.hpp>"));
  CHECK(start_ranks({Environment::Launcher::mpi, 0, 1}, {}) == nullptr);
}

TEST_CASE("without a launcher a world is one rank, and a layout of several is threads") {
  World alone = World::from_env({});
  CHECK(alone.rank() == 0);
  alone.note(1, "nothing");
  CHECK_THROWS_WITH(World::from_env({.tp = 2, .pp = 1, .dp = 1}), Contains("a world of 1 rank was given a layout of tp 2 x pp 1 x dp 1 = 2 ranks"));
  int ranks = 0;
  run_world({}, [&](World& world) { ranks += world.all().size(); });
  CHECK(ranks == 1);
  std::int64_t sum[4]{};
  run_world({.tp = 2, .pp = 1, .dp = 2}, [&](World& world) {
    sum[world.rank()] = world.rank() + 1;
    world.all().all_reduce(View<std::int64_t, 1>(sum + world.rank(), 1), Reduce::sum);
  });
  CHECK((sum[0] == 10 && sum[3] == 10));
  CHECK_THROWS_WITH(run_world({.tp = 1, .pp = 1, .dp = 2}, [](World& world) { require(world.rank() == 0, "no row"); }),
                    Contains("rank 1 of 2 failed: no row"));
  CHECK_THROWS_WITH(run_world({}, [](World&) { fail("no row"); }), "no row");
}

TEST_CASE("a launcher says which rank of its machine a process is; what is no number is told") {
  const auto of = [](std::map<std::string, std::string> variables) {
    return local_rank([&](const char* name) -> const char* {
      const auto found = variables.find(name);
      return found == variables.end() ? nullptr : found->second.c_str();
    });
  };
  CHECK(of({}) == -1);
  CHECK(of({{"LOCAL_RANK", "3"}}) == 3);
  CHECK(of({{"SLURM_LOCALID", "7"}, {"SLURM_PROCID", "15"}}) == 7);
  CHECK(of({{"OMPI_COMM_WORLD_LOCAL_RANK", "1"}, {"SLURM_LOCALID", "0"}}) == 1);  // mpirun within an allocation
  CHECK_THROWS_WITH(of({{"LOCAL_RANK", "x"}}), Catch::Matchers::Contains("LOCAL_RANK is 'x'"));
  CHECK_THROWS_WITH(of({{"LOCAL_RANK", "-1"}}), Catch::Matchers::Contains("which is no rank on this machine"));
}
