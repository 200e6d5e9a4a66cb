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

/// Parses one JSON value. Throws Error that begins with `where` for text that is no JSON, a name given twice in one object, or more than
/// `deepest` containers in one another.
inline nlohmann::json parse_json(std::string_view text, std::string_view where, int deepest) {
  using Json = nlohmann::json;
  std::vector<std::set<std::string>> names;  // of the objects that are open
  int depth = 0;
  const auto check = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) names.emplace_back();
    if (event == Json::parse_event_t::object_end) names.pop_back();
    if (event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start) ++depth;
    if (event == Json::parse_event_t::object_end || event == Json::parse_event_t::array_end) --depth;
    require(depth <= deepest, where, ": values lie in one another more than ", deepest, " deep");
    if (event == Json::parse_event_t::key && !names.back().insert(parsed.get<std::string>()).second)
      fail(where, ": the name '", printable(parsed.get<std::string>()), "' is given twice in one object");
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), check);
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
