// Which checkpoint a path means.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/checkpoint_root.hpp"

#include "catch.hpp"
#include "io/files.hpp"

using test::error_of, test::has;

TEST_CASE("a step and its folder name each other") {
  CHECK(golem::checkpoint::folder_of_step(49300) == "step-00049300");
  for (const std::int64_t step : {std::int64_t{0}, std::int64_t{99999999}, std::int64_t{123456789012}, INT64_MAX})
    CHECK(golem::checkpoint::step_of_folder(golem::checkpoint::folder_of_step(step)) == step);
  for (const char* name : {"step-1", "step-0000000x", "step--0000001", "step-", "49300", "step-00000001.partial", "step-99999999999999999999"})
    CHECK(golem::checkpoint::step_of_folder(name) == -1);
}

TEST_CASE("the latest checkpoint is found, also where a crash left things undone") {
  const test::Folder folder;
  const auto make = [&](const std::string& name) {
    std::filesystem::create_directory(folder / name);
    test::write(folder / (name + "/state.json"), "");
  };
  CHECK(has(error_of([&] { golem::find_checkpoint(folder.path); }), "neither state.json nor a folder like"));
  make("step-00000003");
  make("step-00000012");
  CHECK(golem::find_checkpoint(folder.path) == folder / "step-00000012");  // no `latest` yet
  test::write(folder / "latest", "step-00000003\n");
  CHECK(golem::find_checkpoint(folder.path) == folder / "step-00000003");
  CHECK(golem::find_checkpoint(folder / "step-00000012/") == folder / "step-00000012/");
  std::filesystem::rename(folder / "step-00000003", folder / ".step-00000003.replaced");
  CHECK(golem::find_checkpoint(folder.path) == folder / ".step-00000003.replaced");
  CHECK(golem::find_checkpoint(folder / "step-00000003/") == folder / ".step-00000003.replaced");
  CHECK(golem::checkpoint::saved_steps(folder.path) == std::vector<std::int64_t>{3, 12});
  std::filesystem::remove_all(folder / ".step-00000003.replaced");
  CHECK(has(error_of([&] { golem::find_checkpoint(folder.path); }), "names step-00000003, which is not there; the newest that is: step-00000012"));
  test::write(folder / "latest", "../elsewhere");
  CHECK(has(error_of([&] { golem::find_checkpoint(folder.path); }), "found '../elsewhere'"));
}
