// Training lines: cut between characters, thinned evenly, and freed of rare characters.
// SPDX-License-Identifier: Apache-2.0
#include "golem/data/training_lines.hpp"

#include "catch.hpp"

using namespace golem;
using Texts = std::vector<std::string>;

TEST_CASE("lines come in order, without empty ones") { CHECK(training_lines(Texts{"a\n\nb", "\n", "c\n"}, 1000).take() == Texts{"a", "b", "c"}); }

TEST_CASE("long lines are cut between characters, and nothing is lost") {
  std::string text = "x";
  for (int i = 0; i < 5000; ++i) text += "\u5b89";
  const Texts lines = training_lines(Texts{text}, 1 << 20).take();
  std::string joined;
  for (const std::string& line : lines) {
    CHECK(line.size() <= longest_training_line);
    CHECK(first_invalid_utf8(line) == line.npos);
    joined += line;
  }
  CHECK(joined == text);
}

TEST_CASE("of too much text, every k-th line is read") { CHECK(training_lines(Texts{"a\nb\nc\nd\ne", "f\ng\n"}, 5).take() == Texts{"a", "d", "g"}); }

TEST_CASE("rare characters cut their lines") {
  Texts lines{"aabxaab", "xya", "aaa"};  // a 8, b 2, x 2, y 1
  keep_frequent_characters(lines, 2, 1);
  CHECK(lines == Texts{"aab", "aab", "a", "aaa"});
  lines = {"aabxaab", "xya", "aaa"};
  keep_frequent_characters(lines, 100, 0.7);  // a and b are 10 of 13, a alone 8
  CHECK(lines == Texts{"aab", "aab", "a", "aaa"});
  keep_frequent_characters(lines, 0, 1);
  CHECK(lines.empty());
}
