// JSONL: texts and pairs in their order; each bad line is named.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/jsonl.hpp"

#include <utility>
#include <vector>

#include "catch.hpp"
#include "io/files.hpp"

using test::error_of, test::has;

TEST_CASE("texts come line by line") {
  const test::Folder folder;
  const std::string path = folder / "a.jsonl";
  test::write(path, "\xef\xbb\xbf{\"text\": \"one\", \"id\": 3}\r\n\n   \n{\"text\": \"\\u667a\\n\\\"two\\\"\"}\n{\"text\": \"\"}");
  std::vector<std::string> texts;
  const auto keep = [&](std::string_view text) { return texts.emplace_back(text), true; };
  CHECK(golem::read_texts(path, keep) == 3);
  CHECK(texts == std::vector<std::string>{"one", "\xe6\x99\xba\n\"two\"", ""});
  CHECK(golem::read_texts(path, [](std::string_view) { return false; }) == 1);
  test::write(path, "");
  CHECK(golem::read_texts(path, keep) == 0);
}

TEST_CASE("pairs come under the names that the caller gives") {
  const test::Folder folder;
  const std::string path = folder / "a.jsonl";
  test::write(path, "{\"inputs\": \"1+1\", \"targets\": \"2\"}\n{\"targets\": \"4\", \"inputs\": \"2+2\"}\n");
  std::vector<std::pair<std::string, std::string>> pairs;
  const auto keep = [&](std::string_view text, std::string_view target) { return pairs.emplace_back(text, target), true; };
  CHECK(golem::read_pairs(path, keep, {.text = "inputs", .target = "targets"}) == 2);
  CHECK(pairs == std::vector<std::pair<std::string, std::string>>{{"1+1", "2"}, {"2+2", "4"}});
}

TEST_CASE("a bad line is named by file and number") {
  const test::Folder folder;
  const std::string path = folder / "a.jsonl";
  const auto error = [&](const std::string& line) {
    test::write(path, "{\"text\": \"fine\", \"target\": \"\"}\n\n" + line + "\n");
    return error_of([&] { golem::read_pairs(path, [](std::string_view, std::string_view) { return true; }); });
  };
  CHECK(has(error("{\"text\": \"x\""), "'" + path + "', line 3: no valid JSON"));
  CHECK(has(error("[1]"), "line 3: expected an object"));
  CHECK(has(error("{\"text\": 5, \"target\": \"\"}"), "line 3: 'text' is of type number, expected string"));
  CHECK(has(error("{\"text\": \"x\"}"), "line 3: 'target' is missing"));
  CHECK(has(error("{\"text\": \"\xff\", \"target\": \"\"}"), "line 3: no valid JSON"));
  CHECK(has(error("{\"text\": \"x\"} {}"), "line 3: no valid JSON"));
  CHECK(has(error_of([&] { golem::read_texts(folder / "none", [](std::string_view) { return true; }); }), "No such file"));
}
