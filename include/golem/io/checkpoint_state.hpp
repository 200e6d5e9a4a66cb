// state.json of a checkpoint: the numbers and texts of a run, exactly, and the digest of every file beside it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <system_error>

#include "golem/core/digest.hpp"
#include "golem/core/error.hpp"
#include "golem/io/json.hpp"
#include "golem/io/printable.hpp"
#include "golem/version.hpp"

namespace golem {

/// One file of a checkpoint: `sha256` is what sha256sum prints for it.
struct CheckpointFile {
  std::uint64_t bytes = 0;
  std::string sha256;
  friend bool operator==(const CheckpointFile&, const CheckpointFile&) = default;
};

/// What state.json holds. Reals are written as the shortest decimal that reads back as the same double, in quotes: JSON knows no NaN or infinity.
struct CheckpointState {
  std::int64_t step = 0;
  std::string model;  // the caller's description of the model: what is saved fits no other
  std::map<std::string, std::int64_t> integers;
  std::map<std::string, double> reals;
  std::map<std::string, std::string> texts;
  std::map<std::string, CheckpointFile> files;
};

namespace checkpoint {

inline constexpr int format_version = 1;

/// Digest of all fields but itself, in the canonical form: names ascending, no spaces.
inline std::string digest_of(nlohmann::json fields, std::string_view where) {
  fields.erase("digest");
  const std::string canonical = json_text(fields, where);
  return sha256_hex(canonical.data(), canonical.size());
}

inline std::int64_t integer_value(const nlohmann::json& value, std::string_view name, std::string_view where) {
  const bool fits = value.is_number_unsigned() ? value.get<std::uint64_t>() <= INT64_MAX : value.is_number_integer();
  require(fits, where, ": '", printable(name), "' is no whole number of 64 bits");
  return value.get<std::int64_t>();
}

inline std::string text_value(const nlohmann::json& value, std::string_view name, std::string_view where) {
  require(value.is_string(), where, ": '", printable(name), "' is of type ", value.type_name(), ", expected a text");
  return value.get<std::string>();
}

inline double real_value(const nlohmann::json& value, std::string_view name, std::string_view where) {
  const std::string digits = text_value(value, name, where);
  double real = 0;
  const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), real);
  require(problem == std::errc() && end == digits.data() + digits.size(), where, ": '", printable(name), "' is '", printable(digits), "', expected a number");
  return real;
}

/// A plain file name: one that cannot lead out of the folder, and can be shown.
inline bool is_plain_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string_view::npos && printable(name) == name;
}

/// The field "files" of an object.
inline std::map<std::string, CheckpointFile> parse_files(const nlohmann::json& object, std::string_view where) {
  using Kind = nlohmann::json::value_t;
  std::map<std::string, CheckpointFile> files;
  for (const auto& [name, value] : json_field(object, "files", Kind::object, where).items()) {
    require(is_plain_name(name), where, ": '", printable(name), "' is no plain file name");
    require(value.is_object(), where, ": the entry of file '", printable(name), "' is no object");
    const auto bytes = json_field(value, "bytes", Kind::number_unsigned, where).get<std::uint64_t>();
    files[name] = {bytes, json_field(value, "sha256", Kind::string, where).get<std::string>()};
  }
  return files;
}

/// The field "files" of an object, made.
inline nlohmann::json files_field(const std::map<std::string, CheckpointFile>& files) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [name, file] : files) json[name] = {{"bytes", file.bytes}, {"sha256", file.sha256}};
  return json;
}

}  // namespace checkpoint

/// The text of state.json. Throws Error that begins with `where` for a text that is no UTF-8.
inline std::string format_checkpoint_state(const CheckpointState& state, std::string_view where) {
  nlohmann::json json{{"format", "golem checkpoint"},
                      {"version", checkpoint::format_version},
                      {"golem", sentence(GOLEM_VERSION_MAJOR, ".", GOLEM_VERSION_MINOR, ".", GOLEM_VERSION_PATCH)},
                      {"step", state.step},
                      {"model", state.model},
                      {"integers", state.integers},
                      {"texts", state.texts},
                      {"reals", nlohmann::json::object()},
                      {"files", checkpoint::files_field(state.files)}};
  for (const auto& [name, value] : state.reals) json["reals"][name] = sentence(value);
  json["digest"] = checkpoint::digest_of(json, where);
  return json_text(json, where, 2) + "\n";
}

/// Reads the text of state.json. Throws Error that begins with `where` for anything but what format_checkpoint_state wrote; only spaces may differ.
inline CheckpointState parse_checkpoint_state(std::string_view text, std::string_view where) {
  using Kind = nlohmann::json::value_t;
  const auto json = parse_json(text, where, 4);
  require(json.is_object() && json.value("format", nlohmann::json()) == "golem checkpoint", where,
          ": it does not say that it is of a golem checkpoint");
  const std::int64_t version = checkpoint::integer_value(json.value("version", nlohmann::json()), "version", where);
  require(version == checkpoint::format_version, where, ": it is of format version ", version, ", this golem reads ", checkpoint::format_version);
  const std::string expected = json_field(json, "digest", Kind::string, where).get<std::string>(), found = checkpoint::digest_of(json, where);
  require(expected == found, where, ": it was altered after it was saved: expected digest ", printable(expected), ", found ", found);

  CheckpointState state;
  state.step = checkpoint::integer_value(json.value("step", nlohmann::json()), "step", where);
  state.model = json_field(json, "model", Kind::string, where).get<std::string>();
  for (const auto& [name, value] : json_field(json, "integers", Kind::object, where).items())
    state.integers[name] = checkpoint::integer_value(value, name, where);
  for (const auto& [name, value] : json_field(json, "reals", Kind::object, where).items())
    state.reals[name] = checkpoint::real_value(value, name, where);
  for (const auto& [name, value] : json_field(json, "texts", Kind::object, where).items())
    state.texts[name] = checkpoint::text_value(value, name, where);
  state.files = checkpoint::parse_files(json, where);
  return state;
}

}  // namespace golem
