// Saving under adversity: killed at every step of the file system, on a disk that fills at every byte, and what is kept of older checkpoints.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/checkpoint_writer.hpp"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "catch.hpp"
#include "golem/io/checkpoint.hpp"
#include "io/files.hpp"
#include "io/run_state.hpp"

using test::error_of, test::has, test::RunState;

namespace {

/// What the child got done before it died; in memory that both see.
struct Shared {
  std::int64_t begun = 0, done = 0;
};

void save_step(const std::string& root, std::int64_t step, golem::FileStep on_file = {}) {
  RunState state(step);
  golem::save(root, step, state, {.model = "tiny", .keep_last = 2, .keep_every = 4, .shard_bytes = 64, .on_file = on_file});
}

/// Saves 3, 4, 5, then 5 over itself, then goes back and saves 4 twice, over itself and beside a later one. Kills itself at file system step `fatal`.
[[noreturn]] void save_until_killed(const std::string& root, int fatal, Shared& shared) {
  int steps = 0;
  const auto count = [&](std::string_view, const std::string&) {
    if (++steps == fatal) ::kill(::getpid(), SIGKILL);
  };
  for (const std::int64_t step : {3, 4, 5, 5, 4, 4}) {
    shared.begun = step;
    save_step(root, step, count);
    shared.done = step;
  }
  ::_exit(0);
}

std::vector<std::string> names(std::initializer_list<std::int64_t> steps) {
  std::vector<std::string> out{"latest"};
  for (const std::int64_t step : steps) out.push_back(golem::checkpoint::folder_of_step(step));
  return out;
}

}  // namespace

TEST_CASE("what need not be kept and cannot be deleted hinders no save, and goes with a later one") {
  for (const char* action : {"delete", "rename"}) {
    const test::Folder folder;
    const std::string root = folder / "run";
    save_step(root, 1);
    std::filesystem::create_directories(root + "/.step-00000003.partial");  // of a crash
    test::write(root + "/.step-00000003.partial/state.json", "");
    const auto hinder = [&](std::string_view what, const std::string& path) {
      golem::require(what != action || (path.find("step-00000001") == std::string::npos && path.find("step-00000003.partial") == std::string::npos), "cannot ", what, " '", path, "': Text file busy");
    };
    RunState loaded;
    for (const std::int64_t step : {2, 5, 6, 7}) {
      save_step(root, step, hinder);
      CHECK(golem::load(root, loaded) == step);
    }
    save_step(root, 9);
    CHECK(golem::files::names_in(root) == names({7, 9}));
  }
}

TEST_CASE("a process killed at any step of a save leaves a checkpoint that loads") {
  auto* const shared = static_cast<Shared*>(::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  REQUIRE(shared != MAP_FAILED);
  int fatal = 1;
  for (bool finished = false; !finished; ++fatal) {
    const test::Folder folder;
    const std::string root = folder / "run";
    save_step(root, 2);
    *shared = {2, 2};
    const ::pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) save_until_killed(root, fatal, *shared);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    finished = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    REQUIRE((finished || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)));

    INFO("killed at step " << fatal << " of the file system, while it saved " << shared->begun << " after " << shared->done);
    RunState loaded;
    const std::int64_t step = golem::load(root, loaded, {.model = "tiny"});
    REQUIRE((step == shared->done || step == shared->begun));
    REQUIRE(loaded == RunState(step));

    for (const std::int64_t saved : golem::checkpoint::saved_steps(root))
      REQUIRE(golem::load(root + "/" + golem::checkpoint::folder_of_step(saved), loaded) == saved);

    save_step(root, 6);  // the next save goes on, and leaves nothing of the crash
    REQUIRE(golem::load(root, loaded) == 6);
    for (const std::string& name : golem::files::names_in(root)) REQUIRE(name[0] != '.');
  }
  CHECK(fatal > 100);  // each save has some twenty steps
  ::munmap(shared, sizeof(Shared));
}

TEST_CASE("a disk that fills at any byte of a save costs nothing but that save") {
  const test::Folder folder;
  save_step(folder.path, 1);
  std::uint64_t largest = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "step-00000001"))
    largest = std::max<std::uint64_t>(largest, entry.file_size());
  const auto before = golem::files::names_in(folder.path);
  for (std::uint64_t space = 0; space < largest; space += 1 + largest / 100) {
    const std::string sentence = error_of([&] {
      const test::FullDisk full(space);
      save_step(folder.path, 2);
    });
    REQUIRE(has(sentence, golem::sentence("cannot write byte ", space)));
    REQUIRE(has(sentence, "File too large"));
    REQUIRE(golem::files::names_in(folder.path) == before);
    RunState loaded;
    REQUIRE(golem::load(folder.path, loaded) == 1);
  }
  const test::FullDisk enough(largest + 8);
  CHECK(error_of([&] { save_step(folder.path, 2); }) == "no error");
}

TEST_CASE("the newest checkpoints and each m-th stay, the others go") {
  const test::Folder folder;
  for (std::int64_t step = 1; step <= 10; ++step) save_step(folder.path, step);
  CHECK(golem::files::names_in(folder.path) == names({4, 8, 9, 10}));
  save_step(folder.path, 6);  // the run went back: later checkpoints stay until they are saved anew
  CHECK(golem::files::names_in(folder.path) == names({4, 6, 8, 9, 10}));
  RunState loaded;
  CHECK(golem::load(folder.path, loaded) == 6);
  RunState all(11);
  golem::save(folder.path, 11, all);
  CHECK(golem::files::names_in(folder.path) == names({4, 6, 8, 9, 10, 11}));
}

TEST_CASE("shards are filled in order, and a tensor larger than one has its own") {
  std::vector<golem::TensorState> tensors;
  for (const std::size_t bytes : {4, 4, 8, 100, 4}) tensors.push_back({"", golem::DType::u8, {}, nullptr, bytes});
  std::vector<std::size_t> counts;
  for (const auto& shard : golem::checkpoint::cut_in_shards(tensors, 10)) counts.push_back(shard.size());
  CHECK(counts == std::vector<std::size_t>{2, 1, 1, 1});
  CHECK(golem::checkpoint::cut_in_shards({}, 10).empty());
}
