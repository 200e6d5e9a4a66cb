// AtomicFolder: whole or absent, replaced without a gap, and tidy after a crash.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/atomic_folder.hpp"

#include <new>

#include "catch.hpp"
#include "io/files.hpp"

using test::error_of, test::has;

namespace {

void fill(const golem::AtomicFolder& folder, const std::string& text) {
  golem::OutputFile file(folder.path() + "/a");
  file.write(text);
  file.finish();
}

}  // namespace

TEST_CASE("a folder appears on commit, and replaces the one before it") {
  const test::Folder root;
  const std::string target = root / "model";
  for (const std::string text : {"first", "second"}) {
    golem::AtomicFolder folder(target);
    fill(folder, text);
    CHECK(test::read(target + "/a") == (text == "first" ? "" : "first"));
    folder.commit();
    CHECK(test::read(target + "/a") == text);
  }
  CHECK(golem::files::names_in(root.path) == std::vector<std::string>{"model"});
  {
    const golem::AtomicFolder abandoned(target);
    fill(abandoned, "third");
  }
  CHECK(test::read(target + "/a") == "second");
  CHECK(golem::files::names_in(root.path) == std::vector<std::string>{"model"});
  golem::remove_folder(target);
  CHECK(golem::files::names_in(root.path).empty());
}

TEST_CASE("what a crash left is undone, completed or deleted") {
  const test::Folder root;
  for (const char* name : {".a.partial", ".b.removed", ".c.replaced", ".d.replaced", "d", ".hidden", "e.partial"}) {
    std::filesystem::create_directories(root / name);
    test::write(root / (std::string(name) + "/file"), name);
  }
  CHECK(golem::existing_folder(root / "c") == root / ".c.replaced");
  CHECK(golem::existing_folder(root / "a").empty());
  golem::remove_leftovers(root.path);
  CHECK(golem::files::names_in(root.path) == std::vector<std::string>{".hidden", "c", "d", "e.partial"});
  CHECK(test::read(root / "c/file") == ".c.replaced");
  CHECK(test::read(root / "d/file") == "d");
}

TEST_CASE("a file is replaced as a whole, and errors name it") {
  const test::Folder root;
  golem::replace_file(root / "latest", "one");
  golem::replace_file(root / "latest", "two");
  CHECK(test::read(root / "latest") == "two");
  CHECK(golem::files::names_in(root.path) == std::vector<std::string>{"latest"});
  CHECK(
      has(error_of([&] { golem::replace_file(root / "none/latest", "x"); }), "cannot create '" + root.path + "/none/latest.partial': No such file"));
  CHECK(has(error_of([&] { golem::AtomicFolder(root / "none/folder"); }), "cannot make the folder '" + root.path + "/none/.folder.partial'"));
  CHECK_THROWS_AS(golem::place_file(root / "latest", [](golem::OutputFile&) { throw std::bad_alloc(); }), std::bad_alloc);
  CHECK((test::read(root / "latest") == "two" && golem::files::names_in(root.path) == std::vector<std::string>{"latest"}));
  const std::string full = "cannot write byte 0 of '/dev/full': No space left on device";
  CHECK(error_of([] { golem::OutputFile("/dev/full").write("x"); }) == full);
}
