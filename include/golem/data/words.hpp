// Words: where a token goes on with the word of the token before it, so that blanks can be of whole words.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "golem/core/utf8.hpp"

namespace golem {

/// Tells the borders of words in tokens. Letters and digits that no space parts are one word, and a space belongs to the
/// word behind it; a Chinese piece, or one of other signs, is a word of its own. A default one takes every token for a word.
class Words {
 public:
  Words() = default;

  /// `texts[i]` is the text of token i: empty for special tokens, which are words of their own.
  explicit Words(std::span<const std::string> texts) {
    shapes_.reserve(texts.size());
    for (const std::string& text : texts) shapes_.push_back(shape(text));
  }

  bool empty() const { return shapes_.empty(); }

  /// Whether `token` belongs to the word that `before` ends in.
  bool continues(std::int32_t before, std::int32_t token) const {
    const std::uint8_t left = of(before), right = of(token);
    return ((left & is_space) && (right & is_text) && !(right & is_space)) || ((left & ends_inside) && (right & begins_inside));
  }

 private:
  enum Shape : std::uint8_t { begins_inside = 1, ends_inside = 2, is_space = 4, is_text = 8 };

  std::uint8_t of(std::int32_t token) const { return static_cast<std::size_t>(token) < shapes_.size() ? shapes_[static_cast<std::size_t>(token)] : std::uint8_t{0}; }

  static std::uint8_t shape(std::string_view text) {
    if (text.empty()) return 0;
    if (text == " ") return is_text | is_space;
    const auto inside = [](char32_t c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= 0xc0 && c < 0x2000) || c == 0xfffd; };
    char32_t last = 0;
    for (std::size_t at = 0; at < text.size();) {
      const CodePoint c = decode_utf8(text, at);
      last = c.value;
      at += static_cast<std::size_t>(c.bytes > 0 ? c.bytes : 1);
    }
    return static_cast<std::uint8_t>(is_text | (inside(decode_utf8(text, 0).value) ? begins_inside : 0) | (inside(last) ? ends_inside : 0));
  }

  std::vector<std::uint8_t> shapes_;
};

}  // namespace golem
