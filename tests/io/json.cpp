// Strict JSON: what is ambiguous, endless or no JSON at all is refused in a short sentence.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/json.hpp"

#include <chrono>
#include <string>

#include "catch.hpp"
#include "io/files.hpp"

using test::error_of, test::has;

TEST_CASE("JSON is parsed strictly") {
  const auto error = [](const std::string& text) { return error_of([&] { golem::parse_json(text, "'x.json'", 3); }); };
  CHECK(error(R"({"a": {"b": [1, "two", null]}, "b": {"a": 1}})") == "no error");
  CHECK(error(R"({"a": {"b": 1, "b": 2}})") == "'x.json': the name 'b' is given twice in one object");
  CHECK(error("[[[[1]]]]") == "'x.json': values lie in one another more than 3 deep");
  CHECK(has(error("{} {}"), "'x.json': no valid JSON: parse error at line 1, column 4"));
  CHECK(has(error(""), "no valid JSON"));
  CHECK(error("\"" + std::string(1000000, 'a')).size() < 300);
  CHECK(has(error_of([] { golem::json_text("\xff", "'x.json'"); }), "'x.json': a text in it is no valid UTF-8"));
}

TEST_CASE("a long list of objects takes a time in proportion to its length") {
  std::string text = "{";
  for (int i = 0; i < 100000; ++i) text += golem::sentence(i ? ", " : "", "\"w", i, "\": {\"shape\": [", i, "]}");
  const auto start = std::chrono::steady_clock::now();
  CHECK(golem::parse_json(text + "}", "x", 3).size() == 100000);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(30));  // where it grows with the square, minutes
}

TEST_CASE("a field has a name and a kind") {
  const auto json = golem::parse_json(R"({"n": 1})", "x", 3);
  const auto error = [&](const char* name, nlohmann::json::value_t kind) { return error_of([&] { golem::json_field(json, name, kind, "x"); }); };
  CHECK(error("n", nlohmann::json::value_t::number_unsigned) == "no error");
  CHECK(error("n", nlohmann::json::value_t::string) == "x: 'n' is of type number, expected string");
  CHECK(error("m", nlohmann::json::value_t::string) == "x: 'm' is missing");
}
