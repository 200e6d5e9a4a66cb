// What every file keeps: a first sentence, the licence, at most 400 lines, a name that says what it holds.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>

#include "catch.hpp"
#include "house/tree.hpp"

namespace house {
namespace {

constexpr const char* empty_names = "(^|[/_.-])(utils?|common|helpers?|misc|detail)([/_.-]|$)";

Complaints untidy_files(const Tree& tree) {
  Complaints complaints;
  const auto complain = [&](const std::string& path, const char* what) { complaints.push_back(path + ": " + what); };
  for (const auto& [path, lines] : tree) {
    if (matches(path, empty_names)) complain(path, "the name does not say what is in it");
    const bool cpp = matches(path, "\\.(hpp|cuh|cpp|cu)$"), script = matches(path, "(\\.sh|\\.cmake|CMakeLists\\.txt|^\\.ci/run)$");
    if (!cpp && !script) continue;
    if (lines.size() > 400) complain(path, "more than 400 lines");
    const std::size_t first = !lines.empty() && lines[0].starts_with("#!") ? 1 : 0;
    const std::string mark = cpp ? "//" : "#";
    if (lines.size() < first + 2 || !matches(lines[first], ("^" + mark + " .*\\.( |$)").c_str())) complain(path, "its first line is no sentence");
    if (lines.size() < first + 2 || lines[first + 1] != mark + " SPDX-License-Identifier: Apache-2.0")
      complain(path, "its second line is not the licence");
    if (is_header(path) && std::ranges::find(lines, "#pragma once") == lines.end()) complain(path, "no #pragma once");
    for (const std::string& line : lines)
      if (cpp && line.find("namespace") != std::string::npos &&
          matches(line, "^\\s*(inline )?namespace (\\w+::)*(utils?|common|helpers?|misc|detail)\\b"))
        complain(path, "the namespace does not say what is in it");
  }
  return complaints;
}

Complaints visible_strangers(const std::vector<std::string>& names) {
  static const std::set<std::string> fixed{"include", "examples", "tests", "bench", "CMakeLists.txt", "LICENSE", "README.md"};
  Complaints complaints;
  for (const std::string& name : names)
    if (!fixed.contains(name) && !matches(name, "^(\\.|build|quickstart)")) complaints.push_back(name);  // what .gitignore names may lie there
  return complaints;
}

Tree one(const std::string& path, Lines lines) { return {{path, std::move(lines)}}; }

const Lines tidy{"// A file.", "// SPDX-License-Identifier: Apache-2.0", "#pragma once"};

}  // namespace

TEST_CASE("each file has a first sentence, the licence, a telling name and at most 400 lines") {
  const Tree tree = read_repository();
  CHECK(tree.contains("include/golem/core/error.hpp"));
  CHECK(listed(untidy_files(tree)) == "");
}

TEST_CASE("nothing else is visible at the top") {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(GOLEM_TEST_SOURCE)) names.push_back(entry.path().filename().string());
  CHECK(names.size() > 5);
  CHECK(listed(visible_strangers(names)) == "");
  CHECK(visible_strangers({"src", "README.md", ".clang-format"}) == Complaints{"src"});
}

TEST_CASE("an untidy file is reported") {
  CHECK(untidy_files(one("include/golem/core/a.hpp", tidy)).empty());
  CHECK(untidy_files(one("include/golem/core/utils.hpp", tidy)).size() == 1);
  CHECK(untidy_files(one("include/golem/detail/a.hpp", tidy)).size() == 1);
  CHECK(untidy_files(one("tests/core/io_helpers.cpp", tidy)).size() == 1);
  CHECK(untidy_files(one("include/golem/core/a.hpp", {"// A file.", "#pragma once", "// SPDX-License-Identifier: Apache-2.0"})).size() == 1);
  CHECK(untidy_files(one("include/golem/core/a.hpp", {"// no sentence", "// SPDX-License-Identifier: Apache-2.0", "#pragma once"})).size() == 1);
  CHECK(untidy_files(one("include/golem/core/a.hpp", {"// A file.", "// SPDX-License-Identifier: Apache-2.0"})).size() == 1);
  CHECK(untidy_files(one("include/golem/core/a.hpp", {})).size() == 3);
  CHECK(untidy_files(one("tests/run.sh", {"#!/usr/bin/env bash", "echo"})).size() == 2);

  Lines longer = tidy;
  longer.resize(401);
  CHECK(untidy_files(one("bench/a.cpp", longer)).size() == 1);
  Lines named = tidy;
  named.push_back("namespace golem::detail {");
  CHECK(untidy_files(one("include/golem/core/a.hpp", named)).size() == 1);
}

}  // namespace house
