// Slices in JSON: which part of which tensor the bytes of a file are. What is read is checked against the tensor's shape.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/slice.hpp"
#include "golem/io/json.hpp"

namespace golem {

/// In the metadata of a safetensors file, "slice:NAME" says of the tensor NAME in it which slice it is: the text of format_slice_of.
inline constexpr std::string_view slice_key = "slice:";

/// What a file says of a tensor in it that is a slice of a larger one.
struct SliceOf {
  std::string tensor;               // name of the full tensor
  std::vector<std::int64_t> shape;  // its shape
  Slice slice;
};

namespace slice_json {

inline nlohmann::json run(const Slice::Run& run) { return {run.begin, run.count}; }

/// {"rows": [[begin, count], [begin, count]], "columns": [begin, count], "elements": [begin, count]}
inline nlohmann::json fields(const Slice& slice) {
  return {{"rows", {run(slice.rows[0]), run(slice.rows[1])}}, {"columns", run(slice.columns)}, {"elements", run(slice.elements)}};
}

inline std::int64_t parse_count(const nlohmann::json& value, std::string_view where) {
  require(value.is_number_unsigned() && value.get<std::uint64_t>() <= INT64_MAX, where, ": a number in it is no whole number from 0 to 2^63-1");
  return value.get<std::int64_t>();
}

inline Slice::Run parse_run(const nlohmann::json& value, std::string_view where) {
  require(value.is_array() && value.size() == 2, where, ": a run of it is no array of begin and count");
  return {parse_count(value[0], where), parse_count(value[1], where)};
}

inline std::vector<std::int64_t> parse_shape(const nlohmann::json& object, std::string_view where) {
  std::vector<std::int64_t> shape;
  for (const auto& dim : json_field(object, "shape", nlohmann::json::value_t::array, where)) shape.push_back(parse_count(dim, where));
  return shape;
}

/// A slice of a tensor of the given shape. Throws Error that begins with `where` for any other.
inline Slice parse_fields(const nlohmann::json& object, const std::vector<std::int64_t>& shape, std::string_view where) {
  using Kind = nlohmann::json::value_t;
  const auto& rows = json_field(object, "rows", Kind::array, where);
  require(rows.size() == 2, where, ": 'rows' has ", rows.size(), " runs, expected 2");
  const Slice slice{{parse_run(rows[0], where), parse_run(rows[1], where)},
                    parse_run(json_field(object, "columns", Kind::array, where), where),
                    parse_run(json_field(object, "elements", Kind::array, where), where)};
  check_slice(slice, matrix_extent(shape, where), where);
  return slice;
}

}  // namespace slice_json

inline std::string format_slice_of(const SliceOf& part, std::string_view where) {
  nlohmann::json json = slice_json::fields(part.slice);
  json["tensor"] = part.tensor;
  json["shape"] = part.shape;
  return json_text(json, where);
}

/// Throws Error that begins with `where` for anything but what format_slice_of writes.
inline SliceOf parse_slice_of(std::string_view text, std::string_view where) {
  const auto json = parse_json(text, where, 3);
  require(json.is_object() && json.size() == 5, where, ": expected an object of tensor, shape, rows, columns and elements");
  SliceOf part;
  part.tensor = json_field(json, "tensor", nlohmann::json::value_t::string, where).get<std::string>();
  part.shape = slice_json::parse_shape(json, where);
  part.slice = slice_json::parse_fields(json, part.shape, where);
  require(part.slice.size() > 0, where, ": a slice of no elements");
  return part;
}

/// The shape under which a slice stands in a file: its rows and columns where all of them are there, else a vector of its elements.
inline std::vector<std::int64_t> stored_shape(const SliceOf& part) {
  const auto& [rows, columns, elements] = part.slice;
  if (elements != Slice::Run{0, part.slice.outline()}) return {elements.count};
  if (part.shape.size() < 2) return {rows[0].count + rows[1].count};
  return {rows[0].count + rows[1].count, columns.count};
}

}  // namespace golem
