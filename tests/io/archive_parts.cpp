// Parts of an archive: those that are missing or cut are named, by digits and by letters.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/archive_parts.hpp"

#include <filesystem>
#include <string>

#include "catch.hpp"
#include "io/files.hpp"

using test::has;

TEST_CASE("sixty parts are sound; without one, or with one that was cut, they are not") {
  const test::Folder folder;
  const auto name = [&](int part) { return folder / golem::sentence("glm-130b-sat.tar.part_", part < 10 ? "0" : "", part); };
  for (int part = 0; part < 60; ++part) test::write(name(part), std::string(part == 59 ? 37 : 100, 'x'));
  test::write(folder / "README", "nothing");
  golem::ArchiveParts parts = golem::examine_archive_parts(folder.path);
  CHECK((parts.count == 60 && parts.bytes == 5937 && parts.findings.empty()));
  std::filesystem::remove(name(7));
  test::write(name(30), std::string(99, 'x'));
  parts = golem::examine_archive_parts(folder.path);
  REQUIRE(parts.findings.size() == 2);
  CHECK(has(parts.findings[0], "lacks 1 of the parts of 'glm-130b-sat.tar.part_*' from number 0 to 59"));
  CHECK(has(parts.findings[1], "glm-130b-sat.tar.part_30' has 99 bytes, and the other parts have 100"));
  test::write(name(59), std::string(101, 'x'));
  CHECK(golem::examine_archive_parts(folder.path).findings.size() == 3);
}

TEST_CASE("a first or a last part that is missing is told") {
  for (const int without : {0, 59}) {
    const test::Folder folder;
    for (int part = 0; part < 60; ++part)
      if (part != without) test::write(folder / golem::sentence("glm-130b-sat.tar.part_", part < 10 ? "0" : "", part), std::string(part == 59 ? 37 : 100, 'x'));
    const golem::ArchiveParts parts = golem::examine_archive_parts(folder.path);
    REQUIRE(parts.findings.size() == 1);
    CHECK(has(parts.findings[0], "lacks 1 of the parts"));
  }
  const test::Folder other;  // of which nobody knows how many there are
  for (const char* number : {"1", "2", "3"}) test::write(other / golem::sentence("x.tar.part_", number), "12");
  const golem::ArchiveParts parts = golem::examine_archive_parts(other.path);
  CHECK(parts.findings.empty());
  REQUIRE(parts.remarks.size() == 1);  // it may be whole
  CHECK(has(parts.remarks[0], "x.tar.part_3' is as large as the parts before it"));
  test::write(other / "x.tar.part_4", "1");
  CHECK(golem::examine_archive_parts(other.path).findings.empty());
  CHECK(golem::examine_archive_parts(other.path).remarks.empty());
}

TEST_CASE("parts that split(1) named by letters") {
  const test::Folder folder;
  for (const char* end : {"aa", "ab", "ad", "az", "ba"}) test::write(folder / golem::sentence("x.tar.part_", end), end[0] == 'b' ? "1" : "12");
  const golem::ArchiveParts parts = golem::examine_archive_parts(folder.path);
  REQUIRE(parts.findings.size() == 1);
  CHECK(has(parts.findings[0], "lacks 22 of the parts of 'x.tar.part_*' from number 0 to 26"));
}
