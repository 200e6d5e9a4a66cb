// Every rule of a configuration that the compiler proves has a must-not-compile test of the same sentence.
// SPDX-License-Identifier: Apache-2.0
#include <set>

#include "catch.hpp"
#include "house/tree.hpp"

namespace house {
namespace {

Complaints untested_sentences(const Tree& tree) {
  std::set<std::string> tested;
  for (const auto& [path, lines] : tree)
    if (path.starts_with("tests/must_not_compile/") && !lines.empty()) tested.insert(lines[0]);
  Complaints complaints;
  std::smatch match;
  for (const auto& [path, lines] : tree) {
    if (!path.starts_with("include/golem/config/")) continue;
    for (const std::string& line : lines)
      if (std::regex_search(line, match, std::regex("static_assert\\(.*\"(golem: .* must .*)\"")) &&
          !tested.contains("// Must not compile: " + match.str(1) + "."))
        complaints.push_back("tests/must_not_compile has no file for: " + match.str(1));
  }
  return complaints;
}

}  // namespace

TEST_CASE("each rule of a configuration is shown to stop the compiler") { CHECK(listed(untested_sentences(read_repository())) == ""); }

TEST_CASE("a rule that is not shown is reported") {
  Tree tree{{"include/golem/config/a.hpp", {"  static_assert(a > 0, \"golem: A::a must be above 0\");"}}};
  CHECK(untested_sentences(tree).size() == 1);
  tree["tests/must_not_compile/a.cpp"] = {"// Must not compile: golem: A::a must be above 0."};
  CHECK(untested_sentences(tree).empty());
}

}  // namespace house
