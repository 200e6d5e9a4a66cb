// ConversionJournal: one process at a time, kept until the target has its name, and none of it lost to a crash in between.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/conversion_journal.hpp"

#include <filesystem>
#include <string>
#include <vector>

#include "catch.hpp"
#include "io/files.hpp"

using golem::ConversionJournal;
using test::error_of, test::has;

namespace {

/// A conversion of one file, "weights", with a note of it.
void make(const std::string& target, golem::FileStep step = {}) {
  ConversionJournal journal(target, "a to b", step);
  if (journal.lines().empty()) {
    test::write(journal.folder() + "/weights", "all of them");
    journal.note("weights");
  }
  journal.commit();
}

}  // namespace

TEST_CASE("a target that one is making is refused to others, which touch nothing of it") {
  const test::Folder root;
  const std::string target = root / "model", busy = "another process is making '" + target + "': wait for it, or stop it";
  {
    ConversionJournal first(target, "a to b");
    test::write(first.folder() + "/weights", "half");
    first.note("half");
    CHECK(error_of([&] { ConversionJournal(target, "a to b"); }) == busy);
    CHECK(error_of([&] { ConversionJournal(target, "c to d"); }) == busy);
    CHECK(test::read(first.folder() + "/weights") == "half");
    first.note("more");
  }
  CHECK(ConversionJournal(target, "a to b").lines() == std::vector<std::string>{"half", "more"});
  {
    ConversionJournal other(target, "c to d");
    CHECK(other.lines().empty());
    CHECK(golem::files::names_in(other.folder()) == std::vector<std::string>{"journal"});
    CHECK(error_of([&] { ConversionJournal(target, "c to d"); }) == busy);  // the lock outlives a new beginning
    other.forget();
    CHECK(error_of([&] { ConversionJournal(target, "c to d"); }) == busy);
    other.commit();
  }
  CHECK(golem::files::names_in(root.path) == std::vector<std::string>{"model"});
  CHECK(golem::files::names_in(target).empty());
  CHECK(has(error_of([&] { ConversionJournal(target, "a to b"); }), "'" + target + "' exists already"));
}

TEST_CASE("slashes behind a target's name mean nothing") {
  const test::Folder root;
  make(root / "model//");
  CHECK(golem::files::names_in(root.path) == std::vector<std::string>{"model"});
  CHECK(test::read(root / "model/weights") == "all of them");
  CHECK(has(error_of([&] { make(root / "model/"); }), "exists already"));
}

TEST_CASE("wherever a crash stops the last steps, nothing that was noted is lost") {
  bool completed = false;
  for (int last = 0; !completed; ++last) {
    const test::Folder root;
    const std::string target = root / "model";
    int steps = 0;
    bool noted = false;
    const auto crash = [&](std::string_view, const std::string& path) {
      noted = noted || std::filesystem::exists(root / ".model.unfinished/weights");
      golem::require(steps++ < last, "crash before ", path);
    };
    const std::string error = error_of([&] { make(target, crash); });
    completed = error == "no error";
    if (!std::filesystem::exists(target)) {
      const ConversionJournal journal(target, "a to b");
      CHECK((!noted || journal.lines().size() == 1 || has(error, "journal")));  // before the note itself is on the disk
      CHECK((journal.lines().empty() || test::read(journal.folder() + "/weights") == "all of them"));
      CHECK((!has(error, "crash before " + target) || journal.lines().size() == 1));
    }
    if (!std::filesystem::exists(target)) make(target);
    CHECK(test::read(target + "/weights") == "all of them");
    REQUIRE(last < 100);
  }
}
