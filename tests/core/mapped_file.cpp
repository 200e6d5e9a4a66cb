// MappedFile: content, an empty file, and the sentence of each failure.
// SPDX-License-Identifier: Apache-2.0
#include "golem/core/mapped_file.hpp"

#include <unistd.h>

#include <fstream>

#include "catch.hpp"

TEST_CASE("a mapped file shows its bytes") {
  const std::string path = "mapped_file_" + std::to_string(::getpid());
  std::ofstream(path) << "golem";
  golem::MappedFile file(path);
  CHECK(std::string(reinterpret_cast<const char*>(file.data()), file.size()) == "golem");
  const golem::MappedFile moved(std::move(file));
  CHECK(moved.size() == 5);
  std::ofstream(path, std::ios::trunc).flush();
  CHECK(golem::MappedFile(path).size() == 0);
  ::unlink(path.c_str());
  CHECK_THROWS_AS(golem::MappedFile(path), golem::Error);
  CHECK_THROWS_AS(golem::MappedFile("/tmp"), golem::Error);
}
