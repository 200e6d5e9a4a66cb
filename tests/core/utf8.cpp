// UTF-8 against the limits of each length, an encoder of its own, and every kind of wrong sequence.
// SPDX-License-Identifier: Apache-2.0
#include "golem/core/utf8.hpp"

#include <initializer_list>
#include <string>

#include "catch.hpp"

using namespace golem;

namespace {

/// The bit pattern of RFC 3629, also for numbers that it forbids, in the given number of bytes.
std::string encode(char32_t value, int bytes) {
  if (bytes == 1) return {static_cast<char>(value)};
  std::string out;
  for (int i = 0; i < bytes - 1; ++i, value >>= 6) out.insert(out.begin(), static_cast<char>(0x80 | (value & 0x3f)));
  constexpr int lead[]{0, 0, 0xc0, 0xe0, 0xf0};
  return static_cast<char>(lead[bytes] | static_cast<int>(value)) + out;
}

constexpr int bytes_of(char32_t value) { return value < 0x80 ? 1 : value < 0x800 ? 2 : value < 0x10000 ? 3 : 4; }

}  // namespace

TEST_CASE("every code point is read back from its bytes, and no surrogate is") {
  for (char32_t value = 0; value <= 0x10ffff; ++value) {
    const std::string text = "x" + encode(value, bytes_of(value)) + "y";
    const CodePoint read = decode_utf8(text, 1);
    const bool surrogate = value >= 0xd800 && value <= 0xdfff;
    if (surrogate ? read.bytes != 0 : read.bytes != bytes_of(value) || read.value != value) FAIL("code point " << static_cast<int>(value));
    if ((first_invalid_utf8(text) == std::string_view::npos) == surrogate) FAIL("code point " << static_cast<int>(value));
  }
}

TEST_CASE("a longer form than needed is wrong") {
  for (const char32_t value : {0x0, 0x41, 0x7f}) CHECK(first_invalid_utf8(encode(value, 2)) == 0);
  for (const char32_t value : {0x0, 0x7f, 0x80, 0x7ff}) CHECK(first_invalid_utf8(encode(value, 3)) == 0);
  for (const char32_t value : {0x0, 0x7ff, 0x800, 0xffff}) CHECK(first_invalid_utf8(encode(value, 4)) == 0);
}

TEST_CASE("what is beyond the last plane, cut off or out of place is wrong, and the place is told") {
  CHECK(first_invalid_utf8(encode(0x110000, 4)) == 0);
  CHECK(first_invalid_utf8("ab\xff") == 2);
  CHECK(first_invalid_utf8("\xf8\x88\x80\x80\x80") == 0);
  CHECK(first_invalid_utf8("ab\x80") == 2);                // a continuation byte alone
  CHECK(first_invalid_utf8("\xe4\xbd\xa0\xe5\xa5") == 3);  // the second character lacks a byte
  CHECK(first_invalid_utf8("\xe5\xa5z") == 0);             // a letter in the place of a continuation
  CHECK(first_invalid_utf8(std::string("a\0b", 3)) == std::string_view::npos);
  CHECK(first_invalid_utf8("") == std::string_view::npos);
  CHECK(decode_utf8("\xe5\xa5", 0).value == 0xfffd);
}

TEST_CASE("Chinese characters are told from letters, punctuation and kana") {
  static_assert(is_han(U'中') && is_han(U'一') && is_han(U'〇') && is_han(U'㐀') && is_han(U'𠀀') && is_han(U'龥'));
  static_assert(!is_han(U'a') && !is_han(U'é') && !is_han(U'。') && !is_han(U'，') && !is_han(U'“') && !is_han(U'の') && !is_han(U'한') &&
                !is_han(U'Ａ'));
  CHECK(is_han(decode_utf8("包", 0).value));
}
