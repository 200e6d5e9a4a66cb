// RankPart: what one of the ranks that save together has written, as the file in which it says so to rank 0.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/slice.hpp"
#include "golem/io/checkpoint_state.hpp"
#include "golem/io/json.hpp"
#include "golem/io/printable.hpp"
#include "golem/io/safetensors.hpp"
#include "golem/io/slice_json.hpp"

namespace golem {

/// A tensor that a rank has in memory, all or a slice of it.
struct RankTensor {
  std::string name;
  DType type = DType::f32;
  std::vector<std::int64_t> shape;  // of the full tensor
  Slice slice;
  std::string file;  // that the rank wrote it to; empty: saving it is another rank's
};

struct RankPart {
  std::string save;  // which attempt to save this belongs to: an earlier one may have left its own
  int rank = 0;
  std::string error;  // why the rank could not write its part; empty: it did
  std::map<std::string, CheckpointFile> files;
  std::vector<RankTensor> tensors;
};

inline std::string format_rank_part(const RankPart& part, std::string_view where) {
  nlohmann::json json{{"format", "golem checkpoint part"},
                      {"save", part.save},
                      {"rank", part.rank},
                      {"error", part.error},
                      {"files", checkpoint::files_field(part.files)},
                      {"tensors", nlohmann::json::array()}};
  for (const RankTensor& tensor : part.tensors) {
    nlohmann::json entry = slice_json::fields(tensor.slice);
    entry["name"] = tensor.name;
    entry["type"] = safetensors::type_name(tensor.type);
    entry["shape"] = tensor.shape;
    entry["file"] = tensor.file;
    json["tensors"].push_back(std::move(entry));
  }
  return json_text(json, where);
}

/// Throws Error that begins with `where` for anything but what format_rank_part writes.
inline RankPart parse_rank_part(std::string_view text, std::string_view where) {
  using Kind = nlohmann::json::value_t;
  const auto json = parse_json(text, where, 6);
  require(json.is_object() && json.value("format", nlohmann::json()) == "golem checkpoint part", where,
          ": it does not say that it is a part of a golem checkpoint");
  RankPart part;
  part.save = json_field(json, "save", Kind::string, where).get<std::string>();
  part.error = json_field(json, "error", Kind::string, where).get<std::string>();
  const std::int64_t rank = slice_json::parse_count(json.value("rank", nlohmann::json()), where);
  require(rank <= INT32_MAX, where, ": rank ", rank, " is none");
  part.rank = static_cast<int>(rank);
  part.files = checkpoint::parse_files(json, where);
  for (const auto& entry : json_field(json, "tensors", Kind::array, where)) {
    require(entry.is_object(), where, ": the entry of a tensor is no object");
    RankTensor tensor;
    tensor.name = json_field(entry, "name", Kind::string, where).get<std::string>();
    const std::string which = sentence(where, ", tensor '", printable(tensor.name), "'");
    tensor.type = safetensors::type_named(json_field(entry, "type", Kind::string, which).get<std::string>(), which);
    tensor.shape = slice_json::parse_shape(entry, which);
    tensor.slice = slice_json::parse_fields(entry, tensor.shape, which);
    tensor.file = json_field(entry, "file", Kind::string, which).get<std::string>();
    require(tensor.file.empty() || part.files.contains(tensor.file), which, ": it is said to be in '", printable(tensor.file),
            "', which is no file of the part");
    part.tensors.push_back(std::move(tensor));
  }
  return part;
}

/// Throws Error that begins with `where` unless the parts of all ranks, together, hold each tensor that a rank has seen, and each element once.
inline void prove_parts_complete(const std::vector<RankPart>& parts, std::string_view where) {
  struct Gathered {
    const RankTensor* first = nullptr;
    int rank = 0;  // that showed it first
    std::vector<Slice> slices;
    std::vector<int> ranks;
  };
  std::map<std::string_view, Gathered> tensors;
  for (const RankPart& part : parts)
    for (const RankTensor& tensor : part.tensors) {
      Gathered& gathered = tensors[tensor.name];
      if (!gathered.first) gathered.first = &tensor, gathered.rank = part.rank;
      require(tensor.shape == gathered.first->shape && tensor.type == gathered.first->type, where, ": tensor '", printable(tensor.name), "' is ",
              name_of(gathered.first->type), " ", safetensors::shape_text(gathered.first->shape), " on rank ", gathered.rank, ", but ",
              name_of(tensor.type), " ", safetensors::shape_text(tensor.shape), " on rank ", part.rank);
      if (tensor.file.empty()) continue;
      gathered.slices.push_back(tensor.slice);
      gathered.ranks.push_back(part.rank);
    }
  for (const auto& [name, gathered] : tensors) {
    const MatrixExtent extent = matrix_extent(gathered.first->shape, where);
    const SliceCover cover = cover_of(whole_slice(extent), gathered.slices);
    require(cover.first < 0, where, ": rank ", cover.first < 0 ? 0 : gathered.ranks[static_cast<std::size_t>(cover.first)], " and rank ",
            cover.first < 0 ? 0 : gathered.ranks[static_cast<std::size_t>(cover.second)], " both save elements of tensor '", printable(name),
            "': of ranks that hold the same, one must own it");
    require(cover.missing == 0 && !gathered.slices.empty(), where, ": of the ", extent.size(), " elements of tensor '", printable(name), "', which rank ",
            gathered.rank, " has a part of, ", cover.missing, " are saved by no rank: of ranks that hold the same, one must own it");
  }
}

}  // namespace golem
