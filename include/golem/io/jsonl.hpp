// JSONL files of texts, or of texts with their targets, read line by line.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "golem/core/error.hpp"
#include "golem/core/function_ref.hpp"
#include "golem/core/mapped_file.hpp"
#include "golem/io/json.hpp"

namespace golem {

/// Names of the fields that are read; others are passed over.
struct JsonlFields {
  std::string text = "text";
  std::string target = "target";
};

namespace jsonl {

/// Gives each line that is not blank to `receive`, with "'path', line n" for errors. No copy of the file is made.
inline void read_lines(const std::string& path, function_ref<bool(std::string_view line, const std::string& where)> receive) {
  const MappedFile file(path);
  std::string_view rest(reinterpret_cast<const char*>(file.data()), file.size());
  if (rest.starts_with("\xef\xbb\xbf")) rest.remove_prefix(3);  // the byte order mark that some editors write
  for (std::int64_t number = 1; !rest.empty(); ++number) {
    const auto end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    if (!receive(line, sentence("'", path, "', line ", number))) return;
  }
}

/// The object of a line.
inline nlohmann::json parse_line(std::string_view line, const std::string& where) {
  nlohmann::json object = parse_json(line, where, 32);
  require(object.is_object(), where, ": expected an object like {\"text\": ...}, found ", object.type_name());
  return object;
}

inline const std::string& text_of(const nlohmann::json& object, const std::string& field, const std::string& where) {
  return json_field(object, field.c_str(), nlohmann::json::value_t::string, where).get_ref<const std::string&>();
}

}  // namespace jsonl

/// Reads {"text": ...} lines. `receive` returns whether to go on. The number of texts given to it. Throws Error naming file and line.
inline std::int64_t read_texts(const std::string& path, function_ref<bool(std::string_view text)> receive, const JsonlFields& fields = {}) {
  std::int64_t count = 0;
  jsonl::read_lines(path, [&](std::string_view line, const std::string& where) {
    const nlohmann::json object = jsonl::parse_line(line, where);
    ++count;
    return receive(jsonl::text_of(object, fields.text, where));
  });
  return count;
}

/// Reads {"text": ..., "target": ...} lines, or those with the fields' other names. As read_texts.
inline std::int64_t read_pairs(const std::string& path, function_ref<bool(std::string_view text, std::string_view target)> receive,
                               const JsonlFields& fields = {}) {
  std::int64_t count = 0;
  jsonl::read_lines(path, [&](std::string_view line, const std::string& where) {
    const nlohmann::json object = jsonl::parse_line(line, where);
    ++count;
    return receive(jsonl::text_of(object, fields.text, where), jsonl::text_of(object, fields.target, where));
  });
  return count;
}

}  // namespace golem
