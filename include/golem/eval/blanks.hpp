// Blanks in held-out sentences, chosen by a hash of the text: one English word, or two to four Chinese characters.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/core/random.hpp"
#include "golem/core/utf8.hpp"

namespace golem {

enum class Language : std::uint8_t { english, chinese };

/// before + answer + after is text of the document, but for a space before an English answer.
struct Blank {
  Language language = Language::english;
  std::string before, answer, after;
};

/// Equal after white space at both ends is taken off.
inline bool exact_match(std::string_view answer, std::string_view truth) {
  const auto trim = [](std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\n' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\n' || text.back() == '\t')) text.remove_suffix(1);
    return text;
  };
  return trim(answer) == trim(truth);
}

namespace blanks {

inline constexpr std::size_t context_bytes = 300;  // before and behind the blank's sentence, in its paragraph

inline bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/// The places in text[begin, end) where a blank may be, as (byte, length).
inline std::vector<std::pair<std::size_t, std::size_t>> places(std::string_view text, std::size_t begin, std::size_t end, Language language, std::uint64_t hash) {
  std::vector<std::pair<std::size_t, std::size_t>> found;
  if (language == Language::english) {
    for (std::size_t at = begin; at < end;) {  // words of letters with a space on both sides, so neither the first nor the last
      std::size_t stop = at;
      while (stop < end && is_letter(text[stop])) ++stop;
      if (stop - at >= 3 && at > begin && text[at - 1] == ' ' && stop < end && text[stop] == ' ') found.emplace_back(at, stop - at);
      at = stop + 1;
    }
    return found;
  }
  std::vector<std::size_t> run;  // bytes of consecutive Han characters
  for (std::size_t at = begin; at <= end;) {
    const CodePoint point = decode_utf8(text, at);
    if (at < end && is_han(point.value)) {
      run.push_back(at);
    } else {
      for (std::size_t i = 1; i + 4 < run.size(); ++i) {
        const std::size_t length = 2 + Random{hash, 2}.below(run[i], 3);
        found.emplace_back(run[i], run[i + length] - run[i]);
      }
      run.clear();
    }
    at += static_cast<std::size_t>(point.bytes ? point.bytes : 1);
  }
  return found;
}

struct Sentence {
  std::size_t begin, end;
};

/// Sentences of a paragraph, by their closing punctuation.
inline std::vector<Sentence> sentences(std::string_view paragraph) {
  std::vector<Sentence> found;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < paragraph.size();) {
    const CodePoint point = decode_utf8(paragraph, at);
    at += static_cast<std::size_t>(point.bytes ? point.bytes : 1);
    const bool latin_end = (point.value == '.' || point.value == '!' || point.value == '?') && (at == paragraph.size() || paragraph[at] == ' ');
    const bool chinese_end = point.value == 0x3002 || point.value == 0xff01 || point.value == 0xff1f;
    if (!latin_end && !chinese_end && at < paragraph.size()) continue;
    while (begin < at && paragraph[begin] == ' ') ++begin;
    if (latin_end || chinese_end) found.push_back({begin, at});
    begin = at;
  }
  return found;
}

/// Of a sentence long enough and of one language; false where it is neither.
inline bool language_of(std::string_view sentence, Language& language) {
  std::size_t letters = 0, han = 0, points = 0;
  for (std::size_t at = 0; at < sentence.size(); ++points) {
    const CodePoint point = decode_utf8(sentence, at);
    if (point.bytes == 1 && is_letter(sentence[at])) ++letters;
    if (is_han(point.value)) ++han;
    at += static_cast<std::size_t>(point.bytes ? point.bytes : 1);
  }
  language = han > 0 ? Language::chinese : Language::english;
  return han > 0 ? han >= 12 && 2 * han >= points && points <= 120 : letters >= 35 && 4 * letters >= 3 * points && points <= 300;
}

}  // namespace blanks

/// `count` blanks of each language (fewer where there is not enough text), at most one a sentence: the sentences whose
/// hashes are smallest, whatever the order of the documents. Lines of the documents are paragraphs.
inline std::vector<Blank> choose_blanks(std::span<const std::string> documents, std::size_t count) {
  struct Candidate {
    std::uint64_t hash;
    Blank blank;
  };
  std::vector<Candidate> candidates[2];
  std::set<std::string, std::less<>> seen;
  for (const std::string_view document : documents)
    for (std::size_t line = 0; line < document.size();) {
      const std::size_t end = std::min(document.find('\n', line), document.size());
      const std::string_view paragraph = document.substr(line, end - line);
      line = end + 1;
      for (const blanks::Sentence& sentence : blanks::sentences(paragraph)) {
        const std::string_view text = paragraph.substr(sentence.begin, sentence.end - sentence.begin);
        Language language{};
        if (!blanks::language_of(text, language) || !seen.emplace(text).second) continue;
        const std::uint64_t hash = Random{stream_of(text), 1}.bits(0).word[0] | std::uint64_t{Random{stream_of(text), 1}.bits(0).word[1]} << 32;
        const auto places = blanks::places(paragraph, sentence.begin, sentence.end, language, hash);
        if (places.empty()) continue;
        const auto [at, length] = places[Random{hash, 3}.below(0, places.size())];
        std::size_t first = sentence.begin > blanks::context_bytes ? sentence.begin - blanks::context_bytes : 0;
        while (first > 0 && (static_cast<unsigned char>(paragraph[first]) & 0xc0) == 0x80) ++first;
        std::string before(paragraph.substr(first, at - first));
        if (language == Language::english) before.pop_back();  // the space belongs to the word's token
        candidates[static_cast<int>(language)].push_back({hash, {language, std::move(before), std::string(paragraph.substr(at, length)), std::string(paragraph.substr(at + length, sentence.end - at - length))}});
      }
    }
  std::vector<Blank> chosen;
  for (auto& list : candidates) {
    std::sort(list.begin(), list.end(), [](const Candidate& a, const Candidate& b) { return a.hash < b.hash; });
    for (std::size_t i = 0; i < std::min(count, list.size()); ++i) chosen.push_back(std::move(list[i].blank));
  }
  return chosen;
}

}  // namespace golem
