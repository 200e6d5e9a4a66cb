// Sentences of errors: what a part may be, and how it is written.
// SPDX-License-Identifier: Apache-2.0
#include "golem/core/error.hpp"

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>

#include "catch.hpp"
#include "golem/core/tensor.hpp"

using namespace golem;

TEST_CASE("a sentence is its parts, one after the other") {
  const std::string owned = "heads";
  const char* const pointer = "wide";
  char array[8] = "cut";  // a text ends at its 0
  CHECK(sentence("13 ", owned, ' ', std::string_view("of 768").substr(0, 2), ", ", pointer, " or ", array) == "13 heads of, wide or cut");
  CHECK(sentence(true, '/', false) == "true/false");
  CHECK(sentence("") == "");
}

TEST_CASE("numbers are written in the shortest form that reads back, each of its own type") {
  CHECK(sentence(std::int8_t{-7}, ' ', std::uint8_t{200}, ' ', short{-300}, ' ', -1, ' ', 4000000000u, ' ', -5L, ' ', 6UL) == "-7 200 -300 -1 4000000000 -5 6");
  CHECK(sentence(std::numeric_limits<std::int64_t>::min(), ' ', std::numeric_limits<std::uint64_t>::max()) == "-9223372036854775808 18446744073709551615");
  CHECK(sentence(0.1f, ' ', 0.1, ' ', 1e30, ' ', std::numeric_limits<double>::infinity()) == "0.1 0.1 1e+30 inf");
  CHECK(sentence(static_cast<double>(0.1f)) == "0.10000000149011612");
}

TEST_CASE("a shape is written as its extents") {
  CHECK(sentence(shape_of(View<const float, 3>(nullptr, 2, 512, 768))) == "(2, 512, 768)");
  CHECK(sentence("x ", shape_of(View<float, 1>(nullptr, 5)), '.') == "x (5).");
}

TEST_CASE("require throws its sentence where what it requires does not hold, and only there") {
  require(true, "never written ", 1);
  CHECK_THROWS_WITH(require(false, "heads = ", 13, " must divide hidden = ", 768), "heads = 13 must divide hidden = 768");
  CHECK_THROWS_AS(fail("nothing left"), Error);
}

TEST_CASE("a pointer is no part of a sentence, though it converts to bool") {
  CHECK(!std::is_constructible_v<text::Part, const int*>);
  CHECK(!std::is_constructible_v<text::Part, void (*)()>);
  CHECK(!std::is_constructible_v<text::Part, int std::string_view::*>);
  CHECK(std::is_constructible_v<text::Part, const char*>);
}
