// golem.hpp reaches every header that it should and none that it should not, and the map of the house lists them all.
// SPDX-License-Identifier: Apache-2.0
#include <set>

#include "catch.hpp"
#include "house/tree.hpp"

namespace house {
namespace {

/// Architecture section 1: what golem.hpp leaves out.
bool needs_more_than_a_compiler(const std::string& file) {
  return matches(file, "^(io|report|cuda)/|^data/tokenizer(_any|_icetk)?\\.hpp$|^comm/(mpi|nccl|tcp)\\w*\\.hpp$|\\.cuh$");
}

void reach(const Tree& tree, const std::string& file, std::set<std::string>& reached) {
  const auto found = tree.find("include/golem/" + file);
  if (found == tree.end() || !reached.insert(file).second) return;
  for (const std::string& name : includes_of(found->second))
    if (name.starts_with("golem/")) reach(tree, name.substr(6), reached);
}

Complaints wrong_umbrella(const Tree& tree) {
  std::set<std::string> reached;
  reach(tree, "golem.hpp", reached);
  Complaints complaints;
  for (const auto& [path, lines] : tree) {
    if (!is_header(path)) continue;
    const std::string file = inside_golem(path);
    if (needs_more_than_a_compiler(file) == reached.contains(file))
      complaints.push_back((reached.contains(file) ? "golem.hpp should not reach " : "golem.hpp does not reach ") + file);
  }
  return complaints;
}

/// The map lists a header as "| `core/error.hpp` | what it is |".
Complaints wrong_map(const Tree& tree) {
  std::set<std::string> listed;
  std::smatch match;
  if (const auto map = tree.find("include/golem/README.md"); map != tree.end())
    for (const std::string& line : map->second)
      if (std::regex_search(line, match, std::regex("^\\| `([a-z0-9_/]+\\.(hpp|cuh))` \\| .{3,} \\|$"))) listed.insert(match[1]);
  Complaints complaints;
  for (const auto& [path, lines] : tree)
    if (is_header(path) && listed.erase(inside_golem(path)) == 0) complaints.push_back("include/golem/README.md does not list " + inside_golem(path));
  for (const std::string& file : listed) complaints.push_back("include/golem/README.md lists " + file + ", which does not exist");
  return complaints;
}

}  // namespace

TEST_CASE("the umbrella covers the house") { CHECK(listed(wrong_umbrella(read_repository())) == ""); }

TEST_CASE("the map of the house is complete") { CHECK(listed(wrong_map(read_repository())) == ""); }

TEST_CASE("a hole in the umbrella or the map is reported") {
  const Tree tree{
      {"include/golem/golem.hpp", {"#include \"golem/core/a.hpp\""}},
      {"include/golem/core/a.hpp", {"#include \"golem/io/c.hpp\""}},
      {"include/golem/core/b.hpp", {}},
      {"include/golem/io/c.hpp", {}},
      {"include/golem/cuda/d.cuh", {}},
      {"include/golem/README.md",
       {"| `golem.hpp` | the umbrella |", "| `core/a.hpp` | one |", "| `io/c.hpp` | three |", "| `cuda/d.cuh` | four |", "| `gone.hpp` | five |"}}};
  CHECK(wrong_umbrella(tree) == Complaints{"golem.hpp does not reach core/b.hpp", "golem.hpp should not reach io/c.hpp"});
  CHECK(wrong_map(tree) ==
        Complaints{"include/golem/README.md does not list core/b.hpp", "include/golem/README.md lists gone.hpp, which does not exist"});
}

}  // namespace house
