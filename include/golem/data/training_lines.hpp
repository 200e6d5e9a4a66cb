// Training lines: what a tokenizer learns from, cut from texts: short lines, a bounded amount, and no rare characters.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/utf8.hpp"

namespace golem {

inline constexpr std::size_t longest_training_line = 4096;  // bytes; longer ones are cut

/// The lines of texts that come one at a time, in order, without empty ones; where the texts, of `bytes` together, are longer than
/// `most_bytes`, every k-th.
class TrainingLines {
 public:
  TrainingLines(std::uint64_t bytes, std::size_t most_bytes) : stride_(bytes / std::max<std::size_t>(most_bytes, 1) + 1) {}

  /// Throws Error for a text that is not UTF-8.
  void add(std::string_view text) {
    ++texts_;
    const std::size_t bad = first_invalid_utf8(text);
    require(bad == text.npos, "a tokenizer was to be trained on a text of ", text.size(), " bytes that is not UTF-8 at byte ", bad,
            ": convert it first");
    for (std::size_t at = 0; at < text.size();) {
      std::size_t end = std::min(text.find('\n', at), text.size());
      if (end - at > longest_training_line)
        for (end = at + longest_training_line; (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80;) --end;  // between two code points
      if (end > at && number_++ % stride_ == 0) lines_.emplace_back(text.substr(at, end - at));
      at = end + (end < text.size() && text[end] == '\n');
    }
  }

  std::int64_t texts() const { return texts_; }
  std::vector<std::string> take() { return std::move(lines_); }

 private:
  std::uint64_t stride_, number_ = 0;
  std::int64_t texts_ = 0;
  std::vector<std::string> lines_;
};

/// Those of texts that are all there.
inline TrainingLines training_lines(std::span<const std::string> texts, std::size_t most_bytes) {
  std::uint64_t bytes = 0;
  for (const std::string& text : texts) bytes += text.size();
  TrainingLines lines(bytes, most_bytes);
  for (const std::string& text : texts) lines.add(text);
  return lines;
}

/// Cuts the lines at all but their most frequent characters: at most `count`, which make up `coverage` of the text. A
/// vocabulary smaller than the script of its texts (Chinese has thousands of characters) keeps room for words this way.
inline void keep_frequent_characters(std::vector<std::string>& lines, int count, double coverage) {
  const auto each_character = [&](auto visit) {
    for (const std::string& line : lines)
      for (std::size_t at = 0; at < line.size();) {
        const CodePoint c = decode_utf8(line, at);
        visit(line, at, c);
        at += static_cast<std::size_t>(c.bytes);
      }
  };
  std::unordered_map<char32_t, std::int64_t> times;
  std::int64_t all = 0, covered = 0;
  each_character([&](const std::string&, std::size_t, CodePoint c) { ++times[c.value], ++all; });

  std::vector<std::pair<std::int64_t, char32_t>> ranked;  // most frequent first; of equals, the lower code point
  for (const auto& [character, n] : times) ranked.emplace_back(-n, character);
  std::sort(ranked.begin(), ranked.end());
  for (std::size_t i = 0; i < ranked.size(); ++i) {
    if (static_cast<int>(i) >= count || static_cast<double>(covered) >= coverage * static_cast<double>(all)) times[ranked[i].second] = 0;
    covered -= ranked[i].first;
  }

  std::vector<std::string> kept(1);
  each_character([&](const std::string& line, std::size_t at, CodePoint c) {
    const bool rare = times[c.value] == 0;
    if ((rare || at == 0) && !kept.back().empty()) kept.emplace_back();
    if (!rare) kept.back().append(line, at, static_cast<std::size_t>(c.bytes));
  });
  if (kept.back().empty()) kept.pop_back();
  lines = std::move(kept);
}

}  // namespace golem
