// Blanks of held-out text to fill: a word of an English sentence, a word or short phrase of a Chinese one, chosen by the text itself.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/random.hpp"
#include "golem/core/utf8.hpp"

namespace golem {

/// `before` + `answer` + `after` is one sentence, with the sentences before it that fit in blank_context bytes.
struct Blank {
  std::string before, answer, after;
  bool chinese = false;
};

inline constexpr std::size_t blank_context = 300;   // bytes of the same paragraph before the sentence
inline constexpr std::size_t sentence_limit = 400;  // bytes; what is longer is a list or a table more often than a sentence

/// From one code point to the next: past a byte that begins none, so that text which is not UTF-8 ends too.
inline std::size_t step_of(const CodePoint& c) { return static_cast<std::size_t>(std::max(1, c.bytes)); }

/// A place in a sentence: the bytes begin .. end-1.
struct TextRange {
  std::size_t begin = 0, end = 0;
};

/// Where the sentences of a paragraph are, without the space around them. A sentence ends behind one of 。！？ or behind one
/// of . ! ? before a space and a capital, with closing quotes and brackets; text behind the last end is a sentence of its own.
inline std::vector<TextRange> sentences_of(std::string_view paragraph) {
  const auto among = [&](std::size_t at, std::u32string_view set) {
    return at < paragraph.size() && set.find(decode_utf8(paragraph, at).value) != std::u32string_view::npos;
  };
  std::vector<TextRange> out;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < paragraph.size();) {
    const bool chinese_end = among(at, U"。！？"), western_end = among(at, U".!?");
    at += step_of(decode_utf8(paragraph, at));
    if (chinese_end || western_end)
      while (among(at, U"”’」』）\")")) at += step_of(decode_utf8(paragraph, at));
    const bool capital = at + 1 < paragraph.size() && paragraph[at] == ' ' && paragraph[at + 1] >= 'A' && paragraph[at + 1] <= 'Z';
    if (at < paragraph.size() && !chinese_end && !(western_end && capital)) continue;
    while (begin < at && paragraph[begin] == ' ') ++begin;
    if (begin < at) out.push_back({begin, at});
    begin = at;
  }
  return out;
}

/// What may be blanked in a Chinese sentence: two to four Chinese characters between others, such as punctuation, a space or
/// a Latin name, so that no word is cut in two; not at the beginning of the sentence.
inline std::vector<TextRange> chinese_places(std::string_view sentence) {
  std::vector<TextRange> out;
  std::size_t begin = 0, count = 0;  // of the run of Chinese characters at hand
  for (std::size_t at = 0; at <= sentence.size();) {
    const CodePoint c = at < sentence.size() ? decode_utf8(sentence, at) : CodePoint{0, 1};
    if (is_han(c.value)) {
      if (count++ == 0) begin = at;
    } else {
      if (begin > 0 && count >= 2 && count <= 4) out.push_back({begin, at});
      count = 0;
    }
    at += step_of(c);
  }
  return out;
}

/// What may be blanked in an English sentence: words of three letters or more between spaces, a comma or a colon allowed;
/// so neither the first word, nor the last, nor a part of a name, a path or a command.
inline std::vector<TextRange> english_places(std::string_view sentence) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  std::vector<TextRange> out;
  for (std::size_t space = sentence.find(' '); space != std::string_view::npos; space = sentence.find(' ', space + 1)) {
    std::size_t end = space + 1;
    while (end < sentence.size() && letter(sentence[end])) ++end;
    const std::string_view behind = sentence.substr(end, 2);
    if (end - space > 3 && (behind.starts_with(' ') || behind == ", " || behind == "; " || behind == ": ")) out.push_back({space + 1, end});
  }
  return out;
}

/// How many Chinese characters a text has.
inline std::size_t han_count(std::string_view text) {
  std::size_t count = 0;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text, at);
    count += is_han(c.value);
    at += step_of(c);
  }
  return count;
}

/// Whether a text is a whole sentence of prose, and no heading, table row, code or list: it ends as one, and Chinese has at
/// least ten Chinese characters; English begins with a capital, and words that may be blanked are at least half of it.
inline bool is_prose(std::string_view sentence, std::size_t han, std::span<const TextRange> places) {
  if (sentence.empty() || sentence.size() > sentence_limit) return false;
  if (han > 0) return han >= 10 && (sentence.ends_with("。") || sentence.ends_with("！") || sentence.ends_with("？"));
  std::size_t words = 0;  // bytes, each with the space before it
  for (const TextRange& place : places) words += place.end - place.begin + 1;
  const char first = sentence.front(), last = sentence.back();
  return first >= 'A' && first <= 'Z' && (last == '.' || last == '!' || last == '?') && 2 * words >= sentence.size();
}

/// Up to `per_language` blanks of each language, English first, one a sentence: those sentences whose hash is the smallest,
/// so that neither the order nor the number of documents changes a choice between the same sentences. A paragraph is a line.
/// Throws Error where a document is not UTF-8.
inline std::vector<Blank> choose_blanks(std::span<const std::string> documents, std::size_t per_language, std::uint64_t seed) {
  struct Candidate {
    std::uint64_t order;
    std::string_view sentence, context;  // context: sentences of the same paragraph before it, and the space between
    TextRange place;
    auto key() const { return std::tuple(order, sentence, context); }
  };
  std::vector<Candidate> candidates[2];  // English, Chinese

  for (std::size_t d = 0; d < documents.size(); ++d) {
    const std::string_view document = documents[d];
    const std::size_t wrong = first_invalid_utf8(document);
    require(wrong == std::string_view::npos, "cannot choose blanks of document ", d, ": byte ", wrong, " is not UTF-8");
    for (std::size_t line = 0, end = 0; line < document.size(); line = end + 1) {
      end = std::min(document.find('\n', line), document.size());
      const std::string_view paragraph = document.substr(line, end - line);
      const std::vector<TextRange> sentences = sentences_of(paragraph);
      std::size_t first = 0;  // of the sentences that go along as context
      for (const TextRange& range : sentences) {
        while (range.begin - sentences[first].begin > blank_context) ++first;
        const std::string_view sentence = paragraph.substr(range.begin, range.end - range.begin);
        const std::size_t han = han_count(sentence);
        const std::vector<TextRange> places = han > 0 ? chinese_places(sentence) : english_places(sentence);
        if (places.empty() || !is_prose(sentence, han, places)) continue;
        const Random random{seed, stream_of(sentence)};
        candidates[han > 0].push_back({.order = random.below(0, ~std::uint64_t{0}),
                                       .sentence = sentence,
                                       .context = paragraph.substr(sentences[first].begin, range.begin - sentences[first].begin),
                                       .place = places[random.below(1, places.size())]});
      }
    }
  }

  std::vector<Blank> blanks;
  for (auto& list : candidates) {
    std::sort(list.begin(), list.end(), [](const Candidate& a, const Candidate& b) { return a.key() < b.key(); });
    list.erase(std::unique(list.begin(), list.end(), [](const Candidate& a, const Candidate& b) { return a.sentence == b.sentence; }), list.end());
    if (list.size() > per_language) list.resize(per_language);
    for (const Candidate& c : list) {
      const auto& [begin, end] = c.place;
      blanks.push_back({.before = std::string(c.context) + std::string(c.sentence.substr(0, begin)),
                        .answer = std::string(c.sentence.substr(begin, end - begin)),
                        .after = std::string(c.sentence.substr(end)),
                        .chinese = &list == &candidates[1]});
    }
  }
  return blanks;
}

/// A text without the white space around it.
inline std::string_view trimmed(std::string_view text) {
  constexpr std::string_view space = " \t\n\r";
  const std::size_t first = text.find_first_not_of(space);
  return first == std::string_view::npos ? std::string_view{} : text.substr(first, text.find_last_not_of(space) + 1 - first);
}

/// Whether a model's answer is the truth, white space around both aside.
inline bool exact_match(std::string_view answer, std::string_view truth) { return trimmed(answer) == trimmed(truth); }

}  // namespace golem
