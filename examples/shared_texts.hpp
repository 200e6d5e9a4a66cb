// Texts of a program whose ranks answer together: rank 0 reads and tokenises them, all get the tokens.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/comm/world.hpp"
#include "golem/core/error.hpp"
#include "golem/core/utf8.hpp"
#include "golem/data/documents.hpp"
#include "golem/data/tokenizer_any.hpp"

namespace examples {

struct NamedText {
  std::string id, text;
};

/// A line without the blanks around it, as the original strips it: files of other systems end theirs in a carriage return.
inline std::string stripped(const std::string& line) {
  constexpr std::string_view blanks = " \t\r\n\v\f";
  const std::size_t first = line.find_first_not_of(blanks);
  return first == line.npos ? "" : line.substr(first, line.find_last_not_of(blanks) - first + 1);
}

/// What a line of a file of texts holds: a text, or "id<tab>text".
enum class TextLines : std::uint8_t { plain, with_ids };

/// Texts in turn: from one string, the lines of a file, or the keyboard, where "stop" or an empty line ends them.
class TextSource {
 public:
  static TextSource from_text(std::string text) { return TextSource({{.id = "", .text = std::move(text)}}, Kind::given); }
  static TextSource from_keyboard() { return TextSource({}, Kind::keyboard); }
  /// Lines of a file, stripped, without empty ones. Throws Error for one without a tab, or with an id that names no file of a folder or is an earlier line's.
  static TextSource from_file(const std::string& path, TextLines lines) {
    const bool with_id = lines == TextLines::with_ids;
    std::vector<NamedText> texts;
    std::set<std::string> ids;
    const golem::Document document = golem::read_document(path);
    std::size_t number = 0;
    for (std::size_t line = 0; line < document.text.size();) {
      const std::size_t end = std::min(document.text.find('\n', line), document.text.size());
      const std::string text = document.text.substr(line, end - line);
      line = end + 1, ++number;
      if (stripped(text).empty()) continue;
      const std::size_t tab = text.find('\t');
      golem::require(!with_id || tab != text.npos, "line ", number, " of '", path, "' has no tab behind an id: --with-id wants one in each line");
      const std::string id = with_id ? text.substr(0, tab) : "";
      golem::require(!with_id || (!id.empty() && id.find('/') == id.npos && id.find("..") == id.npos), "line ", number, " of '", path, "' has the id '", id,
                     "', and ids name the files of answers: they must not be empty, nor have a / or ..");
      golem::require(!with_id || ids.insert(id).second, "line ", number, " of '", path, "' has the id '", id, "' of an earlier line, and ids name the files of answers: give each its own");
      texts.push_back({id, stripped(with_id ? text.substr(tab + 1) : text)});
      golem::require(!texts.back().text.empty(), "line ", number, " of '", path, "' has no text behind the id '", id, "': give it one");
    }
    return TextSource(std::move(texts), Kind::given);
  }

  std::optional<NamedText> next() {
    if (!is_keyboard()) return next_ < texts_.size() ? std::optional(texts_[next_++]) : std::nullopt;
    std::fprintf(stderr, "text with [MASK] or [gMASK], a line; stop or an empty line ends\n> ");
    std::string line;
    if (!std::getline(std::cin, line)) return std::nullopt;
    line = stripped(line);
    if (line.empty() || line == "stop") return std::nullopt;
    return NamedText{"", line};
  }
  bool is_keyboard() const { return kind_ == Kind::keyboard; }

 private:
  enum class Kind : std::uint8_t { given, keyboard };
  TextSource(std::vector<NamedText> texts, Kind kind) : texts_(std::move(texts)), kind_(kind) {}
  std::vector<NamedText> texts_;
  std::size_t next_ = 0;
  Kind kind_;
};

/// Rank 0's tokens, on all ranks; none where rank 0 has none.
inline std::optional<std::vector<std::int32_t>> share(golem::World& world, const std::optional<std::vector<std::int32_t>>& tokens) {
  if (world.all().size() == 1) return tokens;
  std::int64_t count = tokens ? static_cast<std::int64_t>(tokens->size()) : -1;
  world.all().broadcast(golem::View<std::int64_t, 1>{&count, 1}, 0);
  if (count < 0) return std::nullopt;
  std::vector<std::int32_t> all = tokens.value_or(std::vector<std::int32_t>());
  all.resize(static_cast<std::size_t>(count));
  world.all().broadcast(golem::View<std::int32_t, 1>{all.data(), count}, 0);
  return all;
}

/// Shows text on standard error as its tokens come, whole characters at a time. The text so far is decoded anew: some tokenizers
/// write a token otherwise at the beginning, and in the middle of a character.
class TokenStream {
 public:
  explicit TokenStream(const golem::AnyTokenizer& tokenizer) : tokenizer_(&tokenizer) {}
  void show(std::int32_t token) {
    constexpr std::string_view incomplete = "\uFFFD";  // what SentencePiece writes for bytes of a character whose rest is to come
    tokens_.push_back(token);
    std::string text = tokenizer_->decode(tokens_);
    while (text.ends_with(incomplete)) text.resize(text.size() - incomplete.size());
    if (text.size() <= shown_ || golem::first_invalid_utf8(text) != text.npos) return;
    std::fputs(text.c_str() + shown_, stderr);
    std::fflush(stderr);
    shown_ = text.size();
  }

 private:
  const golem::AnyTokenizer* tokenizer_;
  std::vector<std::int32_t> tokens_;
  std::size_t shown_ = 0;
};

}  // namespace examples
