// UTF-8: decoding one code point, finding the first bad byte, and telling Chinese characters.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace golem {

/// bytes is 0 where there is no valid code point.
struct CodePoint {
  char32_t value = 0;
  int bytes = 0;
};

/// The code point at byte `at`. Overlong forms, surrogates and values above 10FFFF are not valid (RFC 3629).
constexpr CodePoint decode_utf8(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (at >= text.size()) return {};
  const unsigned lead = byte(at);
  if (lead < 0x80) return {lead, 1};
  const int bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || at + static_cast<std::size_t>(bytes) > text.size()) return {};
  char32_t value = lead & (0x7fu >> bytes);
  for (int i = 1; i < bytes; ++i) {
    const unsigned next = byte(at + static_cast<std::size_t>(i));
    if ((next & 0xc0) != 0x80) return {};
    value = value << 6 | (next & 0x3f);
  }
  constexpr char32_t least[]{0, 0, 0x80, 0x800, 0x10000};
  if (value < least[bytes] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return {};
  return {value, bytes};
}

/// The first byte that begins no valid code point; npos where all is well.
constexpr std::size_t first_invalid_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const int bytes = decode_utf8(text, at).bytes;
    if (bytes == 0) return at;
    at += static_cast<std::size_t>(bytes);
  }
  return std::string_view::npos;
}

/// CJK unified ideographs, with extension A and the compatibility block.
constexpr bool is_han(char32_t c) { return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0xf900 && c <= 0xfaff); }

}  // namespace golem
