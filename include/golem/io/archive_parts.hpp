// The parts in which a large archive is distributed (spec 8: sixty `glm-130b-sat.tar.part_*`): which are missing or cut, by name and size.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/io/atomic_folder.hpp"
#include "golem/io/printable.hpp"

namespace golem {

namespace archive_parts {

/// "x.tar.part_07": its stem "x.tar.part_" and its number, digits or the letters of split(1); no stem for other names.
inline std::pair<std::string, std::int64_t> number_of(const std::string& name) {
  const std::size_t mark = name.rfind(".part_");
  if (mark == std::string::npos) return {};
  const std::string end = name.substr(mark + 6);
  const bool digits = end.find_first_not_of("0123456789") == std::string::npos,
             letters = end.find_first_not_of("abcdefghijklmnopqrstuvwxyz") == std::string::npos;
  if (end.empty() || end.size() > 6 || (!digits && !letters)) return {};
  std::int64_t number = 0;
  for (const char letter : end) number = digits ? number * 10 + (letter - '0') : number * 26 + (letter - 'a');
  return {name.substr(0, mark + 6), number};
}

}  // namespace archive_parts

/// One finding for each run of parts that are missing, or part that has another size than the others; the last is shorter. GLM-130B's are sixty; of
/// other archives no name says how many there should be, so their count and sum are for the reader to compare with what was announced: a remark says
/// so where the last part is as large as the others.
struct ArchiveParts {
  std::int64_t count = 0;
  std::uint64_t bytes = 0;
  std::vector<std::string> findings, remarks;
};

/// Of all parts in a folder; none are there where `count` is 0.
inline ArchiveParts examine_archive_parts(const std::string& folder) {
  ArchiveParts parts;
  std::map<std::string, std::map<std::int64_t, std::pair<std::string, std::uint64_t>>> archives;
  for (const std::string& name : files::names_in(folder)) {
    const auto [stem, number] = archive_parts::number_of(name);
    std::error_code cause;
    const auto bytes = std::filesystem::file_size(folder + "/" + name, cause);
    if (stem.empty() || cause) continue;
    archives[stem][number] = {name, bytes};
    parts.count += 1, parts.bytes += bytes;
  }
  for (const auto& [stem, numbered] : archives) {
    std::map<std::uint64_t, std::int64_t> sizes;  // how many have each size
    for (const auto& [number, part] : numbered) ++sizes[part.second];
    std::uint64_t usual = 0;
    std::int64_t most = 0;
    for (const auto& [size, times] : sizes)
      if (times >= most) usual = size, most = times;
    const bool is_original = stem == "glm-130b-sat.tar.part_";
    const std::string& begin = numbered.begin()->second.first;
    const bool from_one = numbered.begin()->first == 1 && begin.back() == '1' && !is_original;  // split(1) begins at 00 or aa, others at 1
    const std::int64_t first = from_one ? 1 : 0, last = is_original ? std::max<std::int64_t>(59, numbered.rbegin()->first) : numbered.rbegin()->first;
    std::int64_t missing = 0;
    for (std::int64_t number = first; number <= last; ++number) missing += !numbered.contains(number);
    if (missing > 0)
      parts.findings.push_back(sentence("'", folder, "' lacks ", missing, " of the parts of '", printable(stem), "*' from number ", first, " to ",
                                        last, ": download them before joining the parts"));
    if (!is_original && numbered.size() > 1 && numbered.rbegin()->second.second == usual)
      parts.remarks.push_back(sentence("'", folder, "/", printable(numbered.rbegin()->second.first), "' is as large as the parts before it: the last part of an archive is smaller as a rule, so see whether as many as ", numbered.size(), " were announced"));
    for (const auto& [number, part] : numbered)
      if (part.second > usual || (part.second < usual && number != last))
        parts.findings.push_back(sentence("'", folder, "/", printable(part.first), "' has ", part.second, " bytes, and the other parts have ", usual,
                                          ": download it again before joining the parts"));
  }
  return parts;
}

}  // namespace golem
