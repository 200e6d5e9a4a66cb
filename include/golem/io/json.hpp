// JSON of files that nobody vouches for: parsed strictly, with errors that say where.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/io/printable.hpp"

namespace golem {

namespace json {

/// Reads a text for its names and its depth alone. (The library's own callbacks take a time that grows with the square of an object's size.)
class StrictReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  StrictReader(std::string_view where, int deepest) : where_(where), deepest_(deepest) {}

  bool start_object(std::size_t) override { return names_.emplace_back(), deeper(); }
  bool key(string_t& name) override {
    if (!names_.back().insert(name).second) fail(where_, ": the name '", printable(name), "' is given twice in one object");
    return true;
  }
  bool end_object() override { return names_.pop_back(), --depth_, true; }
  bool start_array(std::size_t) override { return deeper(); }
  bool end_array() override { return --depth_, true; }
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception&) override { return false; }  // told by who parses it then

 private:
  bool deeper() {
    require(++depth_ <= deepest_, where_, ": values lie in one another more than ", deepest_, " deep");
    return true;
  }

  std::string_view where_;
  int deepest_, depth_ = 0;
  std::vector<std::set<std::string>> names_;  // of the objects that are open
};

}  // namespace json

/// Parses one JSON value. Throws Error that begins with `where` for text that is no JSON, a name given twice in one object, or more than
/// `deepest` containers in one another.
inline nlohmann::json parse_json(std::string_view text, std::string_view where, int deepest) {
  using Json = nlohmann::json;
  json::StrictReader reader(where, deepest);
  static_cast<void>(Json::sax_parse(text.begin(), text.end(), &reader));
  try {
    return Json::parse(text.begin(), text.end());
  } catch (const Json::exception& problem) {
    const std::string_view all = problem.what();  // "[json.exception.parse_error.101] parse error at line 1, column 5: ..."
    const auto end_of_tag = all.find("] ");
    fail(where, ": no valid JSON: ", printable(all.substr(end_of_tag == std::string_view::npos ? 0 : end_of_tag + 2), 200));  // it may quote the file
  }
}

/// JSON text of a value; `indent` -1: in one line. Throws Error that begins with `where` for text that is no UTF-8.
inline std::string json_text(const nlohmann::json& value, std::string_view where, int indent = -1) {
  try {
    return value.dump(indent);
  } catch (const nlohmann::json::exception&) {
    fail(where, ": a text in it is no valid UTF-8, and JSON can hold nothing else");
  }
}

/// The named field of an object; Error where it is absent or of another kind.
inline const nlohmann::json& json_field(const nlohmann::json& object, const char* name, nlohmann::json::value_t kind, std::string_view where) {
  const auto field = object.find(name);
  require(field != object.end(), where, ": '", name, "' is missing");
  const nlohmann::json wanted(kind);
  require(field->type() == kind, where, ": '", name, "' is of type ", field->type_name(), ", expected ", wanted.type_name());
  return *field;
}

}  // namespace golem
