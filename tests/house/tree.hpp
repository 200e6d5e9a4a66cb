// Tree: the text of the repository's files by path, read from disk, or written by a test that wants a bad one.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <map>
#include <regex>
#include <string>
#include <vector>

namespace house {

using Lines = std::vector<std::string>;
using Tree = std::map<std::string, Lines>;  // path from the root -> lines
using Complaints = std::vector<std::string>;

/// For a test's output: one line each.
inline std::string listed(const Complaints& complaints) {
  std::string text;
  for (const std::string& complaint : complaints) text += "\n" + complaint;
  return text;
}

inline Lines read_lines(const std::filesystem::path& path) {
  std::ifstream file(path);
  Lines lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

/// All text of golem: the fixed folders, and the dot-folders that hold what may not lie at the top.
inline Tree read_repository() {
  const std::filesystem::path root = GOLEM_TEST_SOURCE;
  Tree tree{{"CMakeLists.txt", read_lines(root / "CMakeLists.txt")}};
  for (const char* folder : {"include", "examples", "tests", "bench", ".cmake", ".ci"}) {
    if (!std::filesystem::exists(root / folder)) continue;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder))
      if (entry.is_regular_file()) tree[entry.path().lexically_relative(root).generic_string()] = read_lines(entry.path());
  }
  return tree;
}

inline bool matches(const std::string& text, const char* pattern) { return std::regex_search(text, std::regex(pattern)); }

inline bool is_header(const std::string& path) { return matches(path, "^include/golem/.*\\.(hpp|cuh)$"); }

/// "cpu/norm.hpp" of "include/golem/cpu/norm.hpp".
inline std::string inside_golem(const std::string& path) { return path.substr(std::string("include/golem/").size()); }

/// "cpu" of "cpu/norm.hpp"; "" of "version.hpp".
inline std::string folder_of(const std::string& path) { return path.find('/') == std::string::npos ? "" : path.substr(0, path.find('/')); }

/// What a file includes, as written between the quotes or brackets.
inline std::vector<std::string> includes_of(const Lines& lines) {
  static const std::regex include("^\\s*#\\s*include\\s*[<\"]([^>\"]+)[>\"]");
  std::vector<std::string> names;
  std::smatch match;
  for (const std::string& line : lines)
    if (line.find("include") != std::string::npos && std::regex_search(line, match, include)) names.push_back(match[1]);
  return names;
}

}  // namespace house
