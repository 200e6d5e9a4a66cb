// UTF-8: the code point at a byte, the first byte that is wrong, and which code points are Chinese characters.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string_view>

namespace golem {

/// A code point and the bytes that it takes.
struct CodePoint {
  char32_t value = 0;
  int bytes = 0;
};

/// The code point that begins at byte `at`, which must lie in the text. {U+FFFD, 0} where no valid sequence begins there:
/// overlong forms, surrogates, numbers above U+10FFFF and sequences that are cut off are not valid (RFC 3629).
constexpr CodePoint decode_utf8(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
  constexpr char32_t smallest[]{0, 0, 0x80, 0x800, 0x10000};  // that needs so many bytes
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const int bytes = lead >> 5 == 0x6 ? 2 : lead >> 4 == 0xe ? 3 : lead >> 3 == 0x1e ? 4 : 0;
  if (bytes == 0 || text.size() - at < static_cast<std::size_t>(bytes)) return {0xfffd, 0};
  char32_t value = lead & (0x7f >> bytes);
  for (int i = 1; i < bytes; ++i) {
    if (byte(i) >> 6 != 2) return {0xfffd, 0};
    value = value << 6 | (byte(i) & 0x3f);
  }
  if (value < smallest[bytes] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) return {0xfffd, 0};
  return {value, bytes};
}

/// Where the first byte is that begins no valid sequence; npos where the whole text is valid.
constexpr std::size_t first_invalid_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const int bytes = decode_utf8(text, at).bytes;
    if (bytes == 0) return at;
    at += static_cast<std::size_t>(bytes);
  }
  return std::string_view::npos;
}

/// Whether a code point is a Chinese character: the unified ideographs with their extensions and compatibility forms, and U+3007, zero.
constexpr bool is_han(char32_t c) {
  return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0xf900 && c <= 0xfaff) || (c >= 0x20000 && c <= 0x3ffff) ||
         c == 0x3007;
}

}  // namespace golem
