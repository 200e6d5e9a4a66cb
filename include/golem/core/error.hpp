// golem::Error, and the two calls that raise it: an error is one sentence that says what was attempted, with what, and what to do.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>

#include "golem/version.hpp"

namespace golem {

/// Every run-time failure of the library.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The extents of a tensor, for sentences: "(2, 512, 768)". shape_of (core/tensor.hpp) makes them.
struct ShapeText {
  static constexpr int max_rank = 8;
  std::int64_t extents[max_rank];
  int rank;
};

namespace text {

/// A part of a sentence, before it is written: text, a character, a number or a shape. It owns nothing, and is of one type whatever it holds: what writes
/// sentences is compiled once, not for every length of every literal.
class Part {
 public:
  Part(const char* text) : Part(std::string_view(text)) {}
  Part(std::string_view text) : text_(text), kind_(Kind::text) {}
  Part(const std::string& text) : text_(text), kind_(Kind::text) {}

  Part(char character) : character_(character), kind_(Kind::character) {}
  template <std::same_as<bool> Truth>  // or whatever converts to bool, such as a pointer, would be written as a truth
  Part(Truth truth) : Part(truth ? "true" : "false") {}
  Part(int number) : Part(static_cast<long long>(number)) {}
  Part(long number) : Part(static_cast<long long>(number)) {}
  Part(long long number) : signed_(number), kind_(Kind::signed_number) {}
  Part(unsigned number) : Part(static_cast<unsigned long long>(number)) {}
  Part(unsigned long number) : Part(static_cast<unsigned long long>(number)) {}
  Part(unsigned long long number) : unsigned_(number), kind_(Kind::unsigned_number) {}
  Part(float number) : single_(number), kind_(Kind::single_precision) {}
  Part(double number) : double_(number), kind_(Kind::double_precision) {}
  Part(const ShapeText& shape) : shape_(&shape), kind_(Kind::shape) {}

  /// Writes the part behind `out`; numbers in the shortest form that reads back.
  void append_to(std::string& out) const {
    char digits[48];
    char* const end = digits + sizeof digits;
    switch (kind_) {
      case Kind::text: out += text_; break;
      case Kind::character: out += character_; break;
      case Kind::signed_number: out.append(digits, std::to_chars(digits, end, signed_).ptr); break;
      case Kind::unsigned_number: out.append(digits, std::to_chars(digits, end, unsigned_).ptr); break;
      case Kind::single_precision: out.append(digits, std::to_chars(digits, end, single_).ptr); break;
      case Kind::double_precision: out.append(digits, std::to_chars(digits, end, double_).ptr); break;
      case Kind::shape:
        for (int i = 0; i < shape_->rank; ++i) out += i ? ", " : "(", Part(shape_->extents[i]).append_to(out);
        out += ')';
    }
  }

 private:
  enum class Kind { text, character, signed_number, unsigned_number, single_precision, double_precision, shape };

  union {
    std::string_view text_;
    char character_;
    long long signed_;
    unsigned long long unsigned_;
    float single_;
    double double_;
    const ShapeText* shape_;
  };
  Kind kind_;
};

/// The parts as one text.
[[gnu::cold, gnu::noinline]] inline std::string write(std::initializer_list<Part> parts) {
  std::string out;
  for (const Part& part : parts) part.append_to(out);
  return out;
}

/// Throws Error with the parts as its sentence.
[[noreturn, gnu::cold, gnu::noinline]] inline void raise(std::initializer_list<Part> parts) {
  throw Error(write(parts));
}

}  // namespace text

/// The parts, written one after the other: text, characters, numbers (shortest form that reads back) and shapes.
template <class... Parts>
std::string sentence(const Parts&... parts) {
  return text::write({text::Part(parts)...});
}

/// Throws Error with the parts as its sentence.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  text::raise({text::Part(parts)...});
}

/// Throws Error with the parts as its sentence unless `holds`. The parts are not put together where it holds.
template <class... Parts>
void require(bool holds, const Parts&... parts) {
  if (!holds) [[unlikely]] text::raise({text::Part(parts)...});
}

}  // namespace golem
