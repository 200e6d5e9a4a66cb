// BackgroundSaver: what is saved is the state as it was, training goes on meanwhile, and no error is lost.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/background_save.hpp"

#include <atomic>
#include <limits>

#include "catch.hpp"
#include "golem/io/checkpoint.hpp"
#include "io/files.hpp"
#include "io/rank_state.hpp"
#include "io/run_state.hpp"

using test::error_of, test::has, test::Layout, test::RankState, test::RunState;

TEST_CASE("a state may change while its copy is written") {
  const test::Folder folder;
  std::atomic<bool> go = false;
  const auto hold = [&](std::string_view action, const std::string& path) {
    while (action == "write" && has(path, "model") && !go) std::this_thread::yield();
  };
  golem::BackgroundSaver saver;
  RunState state(7);
  const golem::SavePause pause = saver.save(folder.path, 7, state, {.model = "tiny", .on_file = hold});
  CHECK(pause.bytes == 60 + 14 + 120);
  CHECK(pause.seconds() >= pause.copied_seconds);
  CHECK(golem::files::names_in(folder.path) == std::vector<std::string>{".step-00000007.partial"});
  state = RunState(8);
  go = true;
  saver.save(folder.path, 8, state, {.model = "tiny", .keep_last = 1});
  state = RunState(9);
  saver.wait();
  CHECK(saver.write_seconds() > 0);
  RunState loaded;
  CHECK(golem::load(folder.path, loaded, {.model = "tiny"}) == 8);
  CHECK(loaded == RunState(8));
  CHECK(golem::files::names_in(folder.path) == std::vector<std::string>{"latest", "step-00000008"});
}

TEST_CASE("where there is no memory for the copy, nothing is saved, and what there was stays") {
  struct Huge {
    std::byte byte{};
    void visit_state(golem::StateVisitor& visitor) { visitor.tensor({"block.0.weight", golem::DType::u8, {std::int64_t{1} << 60}, &byte, std::size_t{1} << 60}); }
  } huge;
  const test::Folder folder;
  RunState state(5);
  golem::BackgroundSaver saver;
  saver.save(folder.path, 5, state);
  CHECK(has(error_of([&] { saver.save(folder.path, 6, huge); }), "there is no memory to copy 1099511627776 MiB of a checkpoint"));
  CHECK(golem::files::names_in(folder.path) == std::vector<std::string>{"latest", "step-00000005"});
  saver.save(folder.path, 7, state);
  saver.wait();
  CHECK(golem::files::names_in(folder.path) == std::vector<std::string>{"latest", "step-00000005", "step-00000007"});
}

TEST_CASE("an error of the background is thrown by the next call, whichever it is") {
  const test::Folder folder;
  RunState sick(5), well(6);
  sick.weight[8] = std::numeric_limits<float>::infinity();
  const std::string sentence = "element 8 of tensor 'block.0.weight' is NaN or infinite";
  {
    golem::BackgroundSaver saver;
    saver.save(folder.path, 5, sick);
    CHECK(has(error_of([&] { saver.save(folder.path, 6, well); }), sentence));
    CHECK(error_of([&] { saver.save(folder.path, 6, well); }) == "no error");
    CHECK(error_of([&] { saver.wait(); }) == "no error");
    saver.save(folder.path, 7, sick);
    CHECK(has(error_of([&] { saver.wait(); }), sentence));
    CHECK(error_of([&] { saver.wait(); }) == "no error");
  }
  CHECK(has(error_of([&] {
              golem::BackgroundSaver saver;
              saver.save(folder.path, 8, sick);
            }),
            sentence));
  CHECK(error_of([&] {
          golem::BackgroundSaver saver;
          saver.save(folder.path, 8, sick);
          golem::fail("training failed");
        }) == "training failed");
  RunState loaded;
  CHECK(golem::load(folder.path, loaded) == 6);
  CHECK(golem::files::names_in(folder.path) == std::vector<std::string>{"latest", "step-00000006"});
}

TEST_CASE("many ranks save in the background, at their own pace, and another layout loads it") {
  const test::Folder folder;
  const Layout layout{.tp = 2, .dp = 2};
  const auto sentences = test::on_ranks(4, [&](int rank, golem::function_ref<void()> barrier) {
    golem::BackgroundSaver saver;
    for (std::int64_t step = 1; step <= 6; ++step) {
      RankState state(layout, rank, step);
      saver.save(folder.path, step, state, {.keep_last = 2, .keep_every = 3, .rank = rank, .ranks = 4, .barrier = barrier});
    }
    saver.wait();
  });
  CHECK(sentences == std::vector<std::string>(4, "no error"));
  CHECK(golem::files::names_in(folder.path) == std::vector<std::string>{"latest", "step-00000003", "step-00000005", "step-00000006"});
  for (const std::int64_t step : {3, 5, 6}) {
    RankState state;
    CHECK(golem::load(folder / golem::checkpoint::folder_of_step(step), state) == step);
    CHECK(state == RankState({}, 0, step));
  }
}

TEST_CASE("what one rank cannot save ends the save on all, and the next one is sound") {
  const test::Folder folder;
  const Layout layout{.tp = 3};
  std::vector<std::string> at_save(3), at_next(3);
  const auto sentences = test::on_ranks(3, [&](int rank, golem::function_ref<void()> barrier) {
    golem::BackgroundSaver saver;
    const golem::CheckpointOptions options{.rank = rank, .ranks = 3, .barrier = barrier};
    RankState sick(layout, rank, 4), well(layout, rank, 5);
    if (rank == 1) std::memset(sick.tensors[0].memory.data(), 0xff, 4);
    const auto i = static_cast<std::size_t>(rank);
    at_save[i] = error_of([&] { saver.save(folder.path, 4, sick, options); });
    at_next[i] = error_of([&] { saver.save(folder.path, 5, well, options); });
    saver.save(folder.path, 6, well, options);
    saver.wait();
  });
  CHECK(at_save == std::vector<std::string>(3, "no error"));
  const std::string sentence =
      "rank 1: the checkpoint of step 4 was not saved in '" + folder.path + "': element 0 of tensor 'embedding' is NaN or infinite";
  for (const std::string& error : at_next) CHECK(error == sentence + "; go on from an earlier checkpoint");
  CHECK(sentences == std::vector<std::string>(3, "no error"));
  CHECK(golem::files::names_in(folder.path) == std::vector<std::string>{"latest", "step-00000006"});
}
