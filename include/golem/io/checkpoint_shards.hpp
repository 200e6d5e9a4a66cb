// The files of a checkpoint: what a rank saves as safetensors shards, and the indexes over the shards of all ranks.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/slice.hpp"
#include "golem/core/stateful.hpp"
#include "golem/io/checkpoint_contents.hpp"
#include "golem/io/finite.hpp"
#include "golem/core/output_file.hpp"
#include "golem/io/rank_part.hpp"
#include "golem/io/safetensors_writer.hpp"
#include "golem/io/slice_json.hpp"

namespace golem::checkpoint {

// model-00001-of-00002.safetensors             of one rank
// model-rank00003-00001-of-00002.safetensors   of rank 3 of several
// model.safetensors.index.json                 which file has which tensor, of those that are whole in one
// and the same with "optimizer" for "model". A slice of a tensor "w" has a name of its own, "w@00003", and says in the metadata of its file, under
// "slice:w@00003", what it is: see io/slice_json.hpp.

inline bool is_optimizer(std::string_view tensor) { return tensor.starts_with(optimizer_prefix); }
inline std::string kind_of(bool optimizer) { return optimizer ? "optimizer" : "model"; }

/// The tensors of each file: in their order, as many as fit in `bytes`, at least one.
inline std::vector<std::vector<TensorState>> cut_in_shards(const std::vector<TensorState>& tensors, std::uint64_t bytes) {
  std::vector<std::vector<TensorState>> shards;
  std::uint64_t held = 0;
  for (const TensorState& tensor : tensors) {
    if (shards.empty() || held + tensor.bytes > bytes) {
      shards.emplace_back();
      held = 0;
    }
    shards.back().push_back(tensor);
    held += tensor.bytes;
  }
  return shards;
}

inline std::string shard_name(const std::string& kind, const CheckpointOptions& options, std::size_t shard, std::size_t shards) {
  char rank[24] = "", number[96];
  if (options.ranks > 1) std::snprintf(rank, sizeof rank, "-rank%05d", options.rank);
  std::snprintf(number, sizeof number, "%s-%05zu-of-%05zu.safetensors", rank, shard + 1, shards);
  return kind + number;
}

/// Throws Error where a tensor's memory is not that of its slice; the slice.
inline Slice slice_of(const TensorState& tensor) {
  const std::string where = sentence("cannot save tensor '", tensor.name, "'");
  const MatrixExtent extent = matrix_extent(tensor.shape, where);
  const Slice slice = tensor.slice.value_or(whole_slice(extent));
  check_slice(slice, extent, where);
  const std::uint64_t bytes = static_cast<std::uint64_t>(slice.size()) * static_cast<std::uint64_t>(size_of(tensor.type));
  require(bytes == tensor.bytes, where, ": it has ", tensor.bytes, " bytes, but its shape, slice and type make ", bytes);
  return slice;
}

/// Writes those tensors of this rank that it owns, and says what it wrote. Throws Error where a disk is full or a tensor has NaN or infinity in it
/// (such a checkpoint could not be gone on from, and would push the sound ones out), then beginning with `where`.
inline RankPart write_rank_files(const std::string& folder, const std::vector<TensorState>& tensors, const CheckpointOptions& options,
                                 std::string_view where) {
  RankPart part;
  part.rank = options.rank;
  std::map<std::string, std::size_t> places;       // of what is written, by its name in files: its place in part.tensors
  std::vector<TensorState> written[2];             // the model's, the optimizer's, as they stand in files
  std::map<std::string, std::string> slice_texts;  // of slices, by the name in files
  for (const TensorState& tensor : tensors) {
    const SliceOf slice{tensor.name, tensor.shape, slice_of(tensor)};
    const bool whole = is_whole(slice.slice, matrix_extent(tensor.shape, tensor.name));
    part.tensors.push_back({tensor.name, tensor.type, tensor.shape, slice.slice, ""});
    if (!tensor.owned || (!whole && tensor.bytes == 0)) continue;
    const std::int64_t index = first_not_finite(tensor.type, tensor.data, tensor.bytes);
    require(index < 0, where, ": element ", index, " of tensor '", tensor.name, "' is NaN or infinite; go on from an earlier checkpoint");
    TensorState stored = tensor;
    if (!whole) {
      char rank[24];
      std::snprintf(rank, sizeof rank, "@%05d", options.rank);
      stored.name += rank;
      for (int more = 2; places.contains(stored.name); ++more) stored.name = sentence(tensor.name, rank, ".", more);
      stored.shape = stored_shape(slice);
      slice_texts[stored.name] = format_slice_of(slice, "cannot save a slice");
    }
    places[stored.name] = part.tensors.size() - 1;
    written[is_optimizer(tensor.name)].push_back(std::move(stored));
  }
  for (const bool optimizer : {false, true}) {
    const auto shards = cut_in_shards(written[optimizer], options.shard_bytes);
    for (std::size_t i = 0; i < shards.size(); ++i) {
      const std::string name = shard_name(kind_of(optimizer), options, i, shards.size());
      std::map<std::string, std::string> metadata{{"format", "pt"}};  // what readers of the ecosystem ask for
      for (const TensorState& tensor : shards[i])
        if (const auto text = slice_texts.find(tensor.name); text != slice_texts.end()) metadata[sentence(slice_key, tensor.name)] = text->second;
      SafetensorsWriter writer(folder + "/" + name, shards[i], metadata, options.on_file);
      for (const TensorState& tensor : shards[i]) {
        writer.write(tensor);
        part.tensors[places.at(tensor.name)].file = name;
      }
      const std::string digest = writer.finish();
      part.files[name] = {writer.size(), digest};
    }
  }
  return part;
}

/// Writes the indexes over the files of all parts, as readers of the ecosystem want them, and notes them in `state`. Slices are counted only.
inline void write_indexes(const std::string& folder, const std::vector<RankPart>& parts, const CheckpointOptions& options, CheckpointState& state) {
  for (const bool optimizer : {false, true}) {
    nlohmann::json places = nlohmann::json::object();
    std::uint64_t total = 0, slices = 0;
    for (const RankPart& part : parts)
      for (const RankTensor& tensor : part.tensors) {
        if (tensor.file.empty() || is_optimizer(tensor.name) != optimizer) continue;
        const bool whole = is_whole(tensor.slice, matrix_extent(tensor.shape, tensor.name));
        slices += !whole;
        if (!whole) continue;
        places[tensor.name] = tensor.file;
        total += static_cast<std::uint64_t>(tensor.slice.size()) * static_cast<std::uint64_t>(size_of(tensor.type));
      }
    if (places.empty()) continue;
    nlohmann::json index{{"metadata", {{"total_size", total}}}, {"weight_map", std::move(places)}};
    if (slices > 0) index["metadata"]["slices"] = slices;
    const std::string name = kind_of(optimizer) + ".safetensors.index.json";
    OutputFile file(folder + "/" + name, options.on_file);
    file.write(json_text(index, "the index of a checkpoint", 2) + "\n");
    const std::string digest = file.finish();
    state.files[name] = {file.size(), digest};
  }
}

}  // namespace golem::checkpoint
