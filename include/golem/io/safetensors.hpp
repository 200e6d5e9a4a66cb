// Safetensors files: named tensors behind a JSON header. Read through a memory map, checked to the last byte before anything is believed.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/mapped_file.hpp"
#include "golem/core/number.hpp"
#include "golem/io/json.hpp"
#include "golem/io/printable.hpp"

namespace golem {

static_assert(std::endian::native == std::endian::little, "golem: safetensors files are little-endian, and this machine is not");

/// A tensor in a file: its bytes are at [begin, end) of the file's data part, row-major.
struct StoredTensor {
  std::string name;
  DType type = DType::f32;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;
  std::uint64_t bytes() const { return end - begin; }
};

/// What the header of a file says. Layout: 8 bytes, length of the header; the header, JSON; the data part.
struct SafetensorsHeader {
  std::vector<StoredTensor> tensors;  // in the order of their bytes, which leave no gap
  std::map<std::string, std::string> metadata;
  std::uint64_t data_start = 0;  // offset of the data part in the file
};

namespace safetensors {

inline constexpr std::uint64_t largest_header = 100'000'000;  // bytes; the limit of the format's first implementation

/// Names of the types in files, in the order of DType.
inline constexpr const char* type_names[]{"F64", "F32", "F16", "BF16", "I64", "I32", "I8", "U8"};

inline const char* type_name(DType type) { return type_names[static_cast<int>(type)]; }

inline DType type_named(std::string_view name, std::string_view where) {
  for (int i = 0; i < static_cast<int>(std::size(type_names)); ++i)
    if (name == type_names[i]) return static_cast<DType>(i);
  fail(where, ": element type '", printable(name), "' is none of F64 F32 F16 BF16 I64 I32 I8 U8");
}

inline std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string out = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + sentence(shape[i]);
  return out + ")";
}

/// Bytes of a tensor. Error where dims are negative or the product leaves 63 bits.
inline std::uint64_t byte_count(const std::vector<std::int64_t>& shape, DType type, std::string_view where) {
  std::int64_t product = size_of(type);
  bool fits = true;
  for (const std::int64_t dim : shape) {
    require(dim >= 0, where, ": a dim is ", dim);
    fits = fits && !__builtin_mul_overflow(product, dim, &product);
  }
  fits = fits || std::find(shape.begin(), shape.end(), 0) != shape.end();
  require(fits, where, ": the shape has more elements than any file can hold");
  return std::find(shape.begin(), shape.end(), 0) != shape.end() ? 0 : static_cast<std::uint64_t>(product);
}

inline std::uint64_t unsigned_value(const nlohmann::json& value, std::string_view what, std::string_view where) {
  require(value.is_number_unsigned(), where, ": ", what, " is no whole number from 0 to 2^64-1");
  return value.get<std::uint64_t>();
}

/// One entry of the header.
inline StoredTensor parse_entry(const std::string& name, const nlohmann::json& entry, std::string_view path) {
  using Kind = nlohmann::json::value_t;
  const std::string where = sentence("'", path, "', tensor '", printable(name), "'");
  require(entry.is_object(), where, ": its entry is of type ", entry.type_name(), ", expected an object with dtype, shape and data_offsets");
  StoredTensor tensor;
  tensor.name = name;
  tensor.type = type_named(json_field(entry, "dtype", Kind::string, where).get<std::string>(), where);
  for (const auto& dim : json_field(entry, "shape", Kind::array, where)) {
    const std::uint64_t extent = unsigned_value(dim, "a dim", where);
    require(extent <= INT64_MAX, where, ": a dim is ", extent);
    tensor.shape.push_back(static_cast<std::int64_t>(extent));
  }
  const auto& offsets = json_field(entry, "data_offsets", Kind::array, where);
  require(offsets.size() == 2, where, ": data_offsets has ", offsets.size(), " numbers, expected 2");
  require(entry.size() == 3, where, ": its entry has ", entry.size(), " fields, expected dtype, shape and data_offsets");
  tensor.begin = unsigned_value(offsets[0], "an offset", where), tensor.end = unsigned_value(offsets[1], "an offset", where);
  const std::uint64_t expected = byte_count(tensor.shape, tensor.type, where);
  require(tensor.begin <= tensor.end && tensor.end - tensor.begin == expected, where, ": data_offsets [", tensor.begin, ", ", tensor.end,
          ") do not span the ", expected, " bytes of its shape and type");
  return tensor;
}

}  // namespace safetensors

/// Reads and checks the header of a file that lies in memory. Throws Error naming `path`, offset, and what was expected where anything is amiss:
/// the tensors must cover the data part, in whatever order, without gap or overlap.
inline SafetensorsHeader parse_safetensors(std::span<const std::byte> file, std::string_view path) {
  require(file.size() >= 8, "'", path, "' is no safetensors file: it has ", file.size(), " bytes, and the length of the header alone takes 8");
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  require(length <= safetensors::largest_header, "'", path, "' is no safetensors file: at offset 0 it announces a header of ", length,
          " bytes, more than ", safetensors::largest_header);
  require(length <= file.size() - 8, "'", path, "' is truncated: its header of ", length, " bytes begins at offset 8, but the file has ", file.size(),
          " bytes");
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, length);
  require(text.starts_with('{'), "'", path, "' is no safetensors file: its header at offset 8 does not begin with '{'");
  const auto json = parse_json(text, sentence("'", path, "', header at offset 8"), 4);

  SafetensorsHeader header;
  header.data_start = 8 + length;
  for (const auto& [name, entry] : json.items()) {
    if (name != "__metadata__") {
      header.tensors.push_back(safetensors::parse_entry(name, entry, path));
      continue;
    }
    require(entry.is_object(), "'", path, "': __metadata__ is no object");
    for (const auto& [key, value] : entry.items()) {
      require(value.is_string(), "'", path, "': __metadata__ '", printable(key), "' is of type ", value.type_name(), ", expected a text");
      header.metadata.emplace(key, value.get<std::string>());
    }
  }
  std::sort(header.tensors.begin(), header.tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end != b.end ? a.end < b.end : a.name < b.name;
  });
  std::uint64_t position = 0;
  for (const StoredTensor& tensor : header.tensors) {
    require(tensor.begin == position, "'", path, "', tensor '", printable(tensor.name), "': its bytes begin at offset ", tensor.begin,
            " of the data part, expected ", position, tensor.begin > position ? ": there is a gap" : ": two tensors overlap");
    position = tensor.end;
  }
  const std::uint64_t held = file.size() - header.data_start;
  require(position == held, "'", path, "' ", position > held ? "is truncated" : "has bytes that belong to no tensor", ": the data part, from offset ",
          header.data_start, " on, has ", held, " bytes, expected ", position);
  return header;
}

/// A safetensors file, mapped into memory: opening it reads the header only.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path) : path_(path), file_(path), header_(parse_safetensors({file_.data(), file_.size()}, path)) {
    for (const StoredTensor& tensor : header_.tensors) by_name_.emplace(tensor.name, &tensor);
  }
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::string& path() const { return path_; }
  const std::vector<StoredTensor>& tensors() const { return header_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  std::span<const std::byte> content() const { return {file_.data(), file_.size()}; }
  /// The length of the header and what stands before it; the tensors lie behind, one after the other.
  std::span<const std::byte> head() const { return content().first(header_.data_start); }

  /// Null where there is no tensor of that name.
  const StoredTensor* find(std::string_view name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : found->second;
  }
  /// The tensor's bytes, row-major; they may be unaligned, so copy them out, or read them with memcpy.
  std::span<const std::byte> bytes(const StoredTensor& tensor) const { return content().subspan(header_.data_start + tensor.begin, tensor.bytes()); }
  /// The pages of such bytes no longer count as this process's memory.
  void release(std::span<const std::byte> bytes) const { file_.release(bytes.data(), bytes.size()); }

 private:
  std::string path_;
  MappedFile file_;
  SafetensorsHeader header_;
  std::map<std::string_view, const StoredTensor*> by_name_;
};

}  // namespace golem
