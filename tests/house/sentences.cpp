// Every rule of a configuration that the compiler proves has a must-not-compile test of the same sentence.
// SPDX-License-Identifier: Apache-2.0
#include <set>

#include "catch.hpp"
#include "house/tree.hpp"

namespace house {
namespace {

/// The sentences of a file's static_asserts that state a rule: "golem: ... must ...".
std::vector<std::string> rules_of(const Lines& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + ' ';
  std::vector<std::string> rules;
  std::smatch match;
  for (auto at = text.find("static_assert("); at != std::string::npos; at = text.find("static_assert(", at + 1)) {
    const std::string proof = text.substr(at, text.find(");", at) - at);
    if (std::regex_search(proof, match, std::regex("\"(golem: [^\"]* must [^\"]*)\""))) rules.push_back(match[1]);
  }
  return rules;
}

Complaints untested_sentences(const Tree& tree) {
  std::set<std::string> tested;
  for (const auto& [path, lines] : tree)
    if (path.starts_with("tests/must_not_compile/") && !lines.empty()) tested.insert(lines[0]);
  Complaints complaints;
  for (const auto& [path, lines] : tree) {
    if (!path.starts_with("include/golem/config/")) continue;
    for (const std::string& rule : rules_of(lines))
      if (!tested.contains("// Must not compile: " + rule + ".")) complaints.push_back("tests/must_not_compile has no file for: " + rule);
  }
  return complaints;
}

}  // namespace

TEST_CASE("each rule of a configuration is shown to stop the compiler") { CHECK(listed(untested_sentences(read_repository())) == ""); }

TEST_CASE("a rule that is not shown is reported") {
  Tree tree{{"include/golem/config/a.hpp", {"  static_assert(is(a) > 0,", "    \"golem: A::a must be above 0\");"}}};
  CHECK(untested_sentences(tree).size() == 1);
  tree["tests/must_not_compile/a.cpp"] = {"// Must not compile: golem: A::a must be above 0."};
  CHECK(untested_sentences(tree).empty());
}

}  // namespace house
