// golem::Error, and the two calls that raise it: an error is one sentence that says what was attempted, with what, and what to do.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <concepts>
#include <stdexcept>
#include <string>
#include <string_view>

namespace golem {

/// Every run-time failure of the library.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace text {

inline void append(std::string& out, std::string_view part) { out += part; }
inline void append(std::string& out, char part) { out += part; }

template <std::same_as<bool> Truth>
void append(std::string& out, Truth part) {
  out += part ? "true" : "false";
}

template <class Number>
  requires(std::integral<Number> || std::floating_point<Number>) && (!std::same_as<Number, bool>) && (!std::same_as<Number, char>)
void append(std::string& out, Number part) {
  char digits[48];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, part).ptr);
}

/// A part that writes itself.
template <class Part>
  requires requires(const Part& part, std::string& out) { part.append_to(out); }
void append(std::string& out, const Part& part) {
  part.append_to(out);
}

}  // namespace text

/// The parts, written one after the other: text, characters and numbers (shortest form that reads back).
template <class... Parts>
std::string sentence(const Parts&... parts) {
  std::string out;
  (text::append(out, parts), ...);
  return out;
}

/// Throws Error with the parts as its sentence.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw Error(sentence(parts...));
}

/// Throws Error with the parts as its sentence unless `holds`. The parts are not put together where it holds.
template <class... Parts>
void require(bool holds, const Parts&... parts) {
  if (!holds) [[unlikely]] fail(parts...);
}

}  // namespace golem
