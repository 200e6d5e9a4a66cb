// Many ranks saving under adversity: killed at every step, all at once or one alone; stale parts, full disks, ranks that never come.
// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>

#include "catch.hpp"
#include "golem/io/background_save.hpp"
#include "golem/io/checkpoint.hpp"
#include "io/files.hpp"
#include "io/rank_state.hpp"

using test::error_of, test::has, test::Layout, test::RankState;

namespace {

constexpr Layout layout{.tp = 2, .layers = 1}, alone{.layers = 1};

golem::CheckpointOptions options_of(int rank, golem::function_ref<void()> barrier) {
  return {.keep_last = 2, .keep_every = 4, .shard_bytes = 3000, .rank = rank, .ranks = layout.ranks(), .barrier = barrier};
}

std::vector<std::string> save_on_ranks(const std::string& root, std::int64_t step, std::chrono::milliseconds deadline = std::chrono::minutes(10)) {
  return test::on_ranks(layout.ranks(), [&](int rank, golem::function_ref<void()> barrier) {
    RankState state(layout, rank, step);
    auto options = options_of(rank, barrier);
    options.deadline = deadline;
    golem::save(root, step, state, options);
  });
}

const std::vector<std::string> both_fine(2, "no error");

/// The step of the checkpoint in `root`, which is whole, as every other one there.
std::int64_t sound_step(const std::string& root) {
  RankState state(alone, 0, 0);
  for (const std::int64_t saved : golem::checkpoint::saved_steps(root)) {
    REQUIRE(golem::load(root + "/" + golem::checkpoint::folder_of_step(saved), state) == saved);
    REQUIRE(state == RankState(alone, 0, saved));
  }
  return golem::load(root, state);
}

/// What the child got done before it died, and where its ranks meet; in memory that all see.
struct SharedByRanks {
  std::atomic<std::int64_t> begun = 0, done = 0;
  std::atomic<int> arrived = 0;

  /// A barrier of two processes, with a deadline, as a communicator has one.
  void meet() {
    const int round = arrived++ / 2;
    const bool met = golem::checkpoint::wait_for([&] { return arrived >= 2 * (round + 1); }, std::chrono::milliseconds(100));
    golem::require(met, "the other rank did not come to the barrier");
  }
};

SharedByRanks* shared_memory() {
  void* const memory = ::mmap(nullptr, sizeof(SharedByRanks), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  return new (memory) SharedByRanks;
}

/// Saves 3, and 3 over itself, on threads. Kills the process at file system step `fatal` of rank `victim`, in the background or not.
[[noreturn]] void save_until_a_rank_is_killed(const std::string& root, int victim, int fatal, SharedByRanks& shared) {
  int steps = 0;
  std::string before;  // of the victim; all writes of a file count as one step
  for (const std::int64_t step : {3, 3}) {
    shared.begun = step;
    const auto sentences = test::on_ranks(layout.ranks(), [&](int rank, golem::function_ref<void()> barrier) {
      const auto count = [&](std::string_view action, const std::string& path) {
        if (rank != victim || (std::exchange(before, golem::sentence(action, path)) == golem::sentence(action, path) && action == "write")) return;
        if (++steps == fatal) ::kill(::getpid(), SIGKILL);
      };
      RankState state(layout, rank, step);
      auto options = options_of(rank, barrier);
      options.on_file = count;
      golem::BackgroundSaver saver;
      saver.save(root, step, state, options);
      saver.wait();
    });
    if (sentences != both_fine) ::_exit(1);
    shared.done = step;
  }
  ::_exit(0);
}

}  // namespace

TEST_CASE("a machine that stops at any step of any rank's save leaves a checkpoint that loads") {
  for (const int victim : {0, 1}) {
    int fatal = 1;
    for (bool finished = false; !finished; ++fatal) {
      const test::Folder folder;
      const std::string root = folder / "run";
      REQUIRE(save_on_ranks(root, 2) == both_fine);
      SharedByRanks* const shared = shared_memory();
      shared->begun = shared->done = 2;
      const ::pid_t child = ::fork();
      REQUIRE(child >= 0);
      if (child == 0) save_until_a_rank_is_killed(root, victim, fatal, *shared);
      int status = 0;
      REQUIRE(::waitpid(child, &status, 0) == child);
      finished = WIFEXITED(status) && WEXITSTATUS(status) == 0;
      REQUIRE((finished || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)));

      INFO("rank " << victim << " killed at its step " << fatal << ", while " << shared->begun << " was saved after " << shared->done);
      const std::int64_t step = sound_step(root);
      REQUIRE((step == shared->done || step == shared->begun));
      REQUIRE(save_on_ranks(root, 6) == both_fine);  // the next save goes on, and leaves nothing of the crash
      REQUIRE(sound_step(root) == 6);
      for (const std::string& name : golem::files::names_in(root)) REQUIRE(name[0] != '.');
      ::munmap(shared, sizeof(SharedByRanks));
    }
    CHECK(fatal > (victim == 0 ? 60 : 20));
  }
}

TEST_CASE("a rank that dies alone ends the save of the others within the deadline") {
  int killed = 0, runs = 0;
  for (const int victim : {0, 1}) {
    for (int fatal = 1; fatal < (victim == 0 ? 30 : 14); fatal += 4) {
      const test::Folder folder;
      REQUIRE(save_on_ranks(folder.path, 2) == both_fine);
      SharedByRanks* const shared = shared_memory();
      ::pid_t children[2];
      for (int rank = 0; rank < 2; ++rank) {
        children[rank] = ::fork();
        REQUIRE(children[rank] >= 0);
        if (children[rank] != 0) continue;
        int steps = 0;
        auto barrier = [&] { shared->meet(); };
        const auto count = [&](std::string_view, const std::string&) {
          if (rank == victim && ++steps == fatal) ::kill(::getpid(), SIGKILL);
        };
        RankState state(layout, rank, 3);
        auto options = options_of(rank, barrier);
        options.on_file = count, options.deadline = std::chrono::milliseconds(100);
        ::_exit(error_of([&] { golem::save(folder.path, 3, state, options); }) == "no error" ? 0 : 1);
      }
      for (const ::pid_t child : children) {
        int status = 0;
        REQUIRE(::waitpid(child, &status, 0) == child);
        killed += WIFSIGNALED(status);
      }
      ++runs;
      INFO("rank " << victim << " alone killed at its step " << fatal);
      const std::int64_t step = sound_step(folder.path);
      REQUIRE((step == 2 || step == 3));
      REQUIRE(save_on_ranks(folder.path, 4) == both_fine);
      REQUIRE(sound_step(folder.path) == 4);
      ::munmap(shared, sizeof(SharedByRanks));
    }
  }
  CHECK(runs == 12);
  CHECK(killed > 5);  // all, but where a busy machine makes a rank so late that the other one gives up
}

TEST_CASE("a rank that never comes is named, and what is left of it confuses no later save") {
  const test::Folder folder;
  REQUIRE(save_on_ranks(folder.path, 2) == both_fine);
  const auto sentences = test::on_ranks(2, [&](int rank, golem::function_ref<void()> barrier) {
    RankState state(layout, rank, 3);
    auto options = options_of(rank, barrier);
    options.deadline = std::chrono::milliseconds(20);
    golem::CheckpointSave save(folder.path, 3, options);
    if (rank == 1) return;
    golem::checkpoint::Collector collector;
    state.visit_state(collector);
    save.finish(std::move(collector.contents));
  });
  CHECK(sentences[0] == "the checkpoint of step 3 was not saved in '" + folder.path +
                            "': rank 1 had not written its part 0.02 s after rank 0: see whether it still runs");
  const std::string partial = folder / ".step-00000003.partial";
  CHECK(golem::files::names_in(partial) == std::vector<std::string>{"begun", "failed"});
  CHECK(test::read(partial + "/failed") == sentences[0]);

  // A crash leaves parts of another attempt, which say that they are complete, and a failure.
  golem::RankPart stale;
  stale.save = "1-2-3", stale.rank = 1;
  test::write(golem::checkpoint::part_path(partial, 1), golem::format_rank_part(stale, "x"));
  test::write(partial + "/begun", "1-2-3");
  CHECK(save_on_ranks(folder.path, 3) == both_fine);
  CHECK(sound_step(folder.path) == 3);

  // An earlier run that is still alive writes its part into the folder of this one.
  const auto disturbed = test::on_ranks(2, [&](int rank, golem::function_ref<void()> barrier) {
    RankState state(layout, rank, 4);
    golem::CheckpointSave save(folder.path, 4, options_of(rank, barrier));
    if (rank == 1) {
      golem::replace_file(golem::checkpoint::part_path(folder / ".step-00000004.partial", 1), golem::format_rank_part(stale, "x"));
      return;
    }
    golem::checkpoint::Collector collector;
    state.visit_state(collector);
    save.finish(std::move(collector.contents));
  });
  CHECK(has(disturbed[0], "part-00001.json' is of another save: does an earlier run still write there?"));

  // Or it writes over a file of this one.
  const auto overwritten = test::on_ranks(2, [&](int rank, golem::function_ref<void()> barrier) {
    RankState state(layout, rank, 5);
    const auto disturb = [&](std::string_view action, const std::string& path) {
      if (action == "create" && has(path, "part-00001"))
        test::write(folder / ".step-00000005.partial/model-rank00001-00001-of-00001.safetensors", "");
    };
    auto options = options_of(rank, barrier);
    options.on_file = disturb;
    golem::save(folder.path, 5, state, options);
  });
  const std::string sentence = "': 'model-rank00001-00001-of-00001.safetensors' is no longer what rank 1 wrote";
  for (const std::string& error : overwritten) CHECK(has(error, "the checkpoint of step 5 was not saved in '" + folder.path + sentence));
  CHECK(sound_step(folder.path) == 3);
}

TEST_CASE("a disk that fills at any byte of any rank's file costs nothing but that save") {
  const test::Folder folder;
  REQUIRE(save_on_ranks(folder.path, 1) == both_fine);
  std::uint64_t largest = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "step-00000001"))
    largest = std::max<std::uint64_t>(largest, entry.file_size());
  for (std::uint64_t space = 40; space < largest; space += 1 + largest / 30) {
    std::vector<std::string> sentences;
    {
      const test::FullDisk full(space);
      sentences = save_on_ranks(folder.path, 2, std::chrono::milliseconds(10));
    }
    for (const std::string& sentence : sentences) REQUIRE(sentence != "no error");
    REQUIRE(has(sentences[0] + sentences[1], "File too large"));
    REQUIRE(sound_step(folder.path) == 1);
  }
  CHECK(save_on_ranks(folder.path, 2) == both_fine);
}

TEST_CASE("ranks need a barrier, and a rank is one of them") {
  const test::Folder folder;
  RankState state;
  CHECK(has(error_of([&] { golem::save(folder.path, 3, state, {.ranks = 2}); }), "2 ranks need a barrier, CheckpointOptions::barrier"));
  CHECK(has(error_of([&] { golem::save(folder.path, 3, state, {.rank = 1}); }), "rank 1 is none of 1 ranks"));
  test::write(folder / "file", "");
  const auto sentences = save_on_ranks(folder / "file", 3);
  CHECK(has(sentences[0], "cannot make the folder '" + folder.path + "/file'"));
  CHECK(has(sentences[1], "rank 0 did not make the folder"));
}
