// Released checkpoints: `latest`, and the folder that it names, with a shard for each tensor-parallel rank (spec 8); and which model they hold.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "golem/config/parameters.hpp"
#include "golem/core/digest.hpp"
#include "golem/core/error.hpp"
#include "golem/core/mapped_file.hpp"
#include "golem/io/atomic_folder.hpp"
#include "golem/io/printable.hpp"
#include "golem/io/safetensors.hpp"
#include "golem/io/sat_shard.hpp"
#include "golem/io/stored_model.hpp"

namespace golem {

namespace sat {

inline std::string shard_name(int rank) { return sentence("mp_rank_", rank < 10 ? "0" : "", rank, "_model_states.pt"); }

/// The rank that a file is named after, or -1 for other names.
inline int rank_of(std::string_view name) {
  constexpr std::string_view before = "mp_rank_", behind = "_model_states.pt";
  if (!name.starts_with(before) || !name.ends_with(behind)) return -1;
  int rank = -1;
  const auto [end, problem] = std::from_chars(name.data() + before.size(), name.data() + name.size(), rank);
  return problem == std::errc() && rank >= 0 && rank < 4096 && shard_name(rank) == name ? rank : -1;
}

/// The ranks whose shards are in a folder, ascending.
inline std::vector<int> ranks_in(const std::string& folder) {
  std::vector<int> ranks;
  for (const std::string& name : files::names_in(folder))
    if (const int rank = rank_of(name); rank >= 0) ranks.push_back(rank);
  std::sort(ranks.begin(), ranks.end());
  return ranks;
}

/// Whether `latest` can name such a folder: one beside it that can be shown, and none of golem's own checkpoints (step-00000100).
inline bool is_iteration(std::string_view name) {
  return !name.empty() && name.find('/') == std::string_view::npos && printable(name) == name && name[0] != '.' && name.back() != ' ' &&
         !name.starts_with("step-");
}

/// The folder of shards that a path means: itself, or the one that its `latest` names. "" where it is no released checkpoint.
inline std::string find_folder(const std::string& path) {
  if (!files::is_folder(path)) return "";
  if (!ranks_in(path).empty()) return path;
  const std::string latest = path + "/latest";
  if (!std::filesystem::is_regular_file(latest)) return "";
  const MappedFile file(latest);
  std::string name(reinterpret_cast<const char*>(file.data()), std::min<std::size_t>(file.size(), 256));
  while (!name.empty() && (name.back() == '\n' || name.back() == '\r' || name.back() == ' ')) name.pop_back();
  if (!is_iteration(name)) return "";
  const std::string folder = path + "/" + name;
  require(files::is_folder(folder), "'", latest, "' names the folder '", printable(name),
          "', which is not there: unpack the whole archive, or write the right name into it");
  return folder;
}

}  // namespace sat

/// Whether a path is a released checkpoint, or the folder of its shards.
inline bool is_sat_checkpoint(const std::string& path) { return !sat::find_folder(path).empty(); }

/// All shards of a checkpoint, mapped.
class SatCheckpoint {
 public:
  /// Throws Error where parts are missing, or a shard is damaged.
  explicit SatCheckpoint(const std::string& path) : folder_(sat::find_folder(path)) {
    require(!folder_.empty(), "cannot load a released checkpoint from '", path, "': it has neither ", sat::shard_name(0),
            " nor a file 'latest' that names a folder with it");
    const std::vector<int> ranks = sat::ranks_in(folder_);
    require(!ranks.empty(), "the checkpoint '", folder_, "' has no file like ", sat::shard_name(0));
    std::string missing;
    for (int rank = 0; rank < ranks.back(); ++rank)
      if (!std::binary_search(ranks.begin(), ranks.end(), rank)) missing += (missing.empty() ? "" : ", ") + sat::shard_name(rank);
    require(missing.empty(), "the checkpoint '", folder_, "' lacks ", missing, ": of ", ranks.back() + 1, " parts it has ", ranks.size(),
            "; copy or download them again");
    for (const int rank : ranks) shards_.emplace_back(folder_ + "/" + sat::shard_name(rank));
  }

  const std::string& folder() const { return folder_; }
  /// What the folder is named after, whether its path ends in it or in "." or slashes: the training step.
  std::string iteration() const {
    const std::string name = std::filesystem::path(files::without_slashes_behind(folder_)).filename().string();
    std::error_code ignored;  // "" where it is gone meanwhile
    return sat::is_iteration(name) ? name : std::filesystem::canonical(folder_, ignored).filename().string();
  }
  int tp() const { return static_cast<int>(shards_.size()); }
  const SatShard& shard(int rank) const { return shards_[static_cast<std::size_t>(rank)]; }

 private:
  std::string folder_;
  std::deque<SatShard> shards_;
};

/// Names the content of a checkpoint, by the CRCs of all entries of its shards.
inline std::string content_of(const SatCheckpoint& checkpoint) {
  Sha256 digest;
  for (int rank = 0; rank < checkpoint.tp(); ++rank)
    for (const ZipEntry& entry : checkpoint.shard(rank).archive().entries()) {
      const std::string line = sentence(entry.name, " ", entry.bytes, " ", entry.crc, "\n");
      digest.update(line.data(), line.size());
    }
  return digest.hex();
}

/// What is in a checkpoint, by the shapes of its tensors.
struct SatModel {
  ModelConfig config;  // in GLM-130B's architecture
  int bits = 0;        // of its linear weights where they are quantised; 0: they are not
};

/// Throws Error where the shapes are those of no model. Heads are in no shape: 0 for GLM-130B's 128 dims each.
inline SatModel sat_model(const SatCheckpoint& checkpoint, int heads = 0) {
  const SatShard& shard = checkpoint.shard(0);
  const std::string where = sentence("'", shard.path(), "'");
  const auto matrix = [&](const std::string& name) -> const SatTensor& {
    const SatTensor* const found = shard.find(name);
    require(found && found->shape.size() == 2 && found->extent.rows <= INT32_MAX / 4096 && found->extent.columns <= INT32_MAX / 4096, where,
            found ? " has no sound matrix '" : " has no tensor '", name, "': it is no checkpoint of a GLM");
    return *found;
  };
  const int tp = checkpoint.tp();
  const SatTensor &embedding = matrix("transformer.word_embeddings.weight"), &qkv = matrix("transformer.layers.0.attention.query_key_value.weight");
  const SatTensor &up = matrix("transformer.layers.0.mlp.dense_h_to_4h.weight"), &down = matrix("transformer.layers.0.mlp.dense_4h_to_h.weight");
  const auto whole = [&](std::int64_t part) {
    const std::int64_t all = part * tp;
    require(all <= INT32_MAX / 4, where, ": ", tp, " shards with ", part, " rows or columns of a matrix make ", all, ", more than any model has");
    return static_cast<int>(all);
  };
  SatModel model{glm_130b::config, 0};
  ModelConfig& c = model.config;
  c.vocab = whole(embedding.extent.rows), c.hidden = static_cast<int>(embedding.extent.columns);
  if (qkv.type == DType::i8) model.bits = qkv.extent.columns * 2 == c.hidden ? 4 : 8;
  c.ffn = whole(down.extent.columns * (model.bits == 4 ? 2 : 1));
  c.ffn_kind = whole(up.extent.rows) == c.ffn ? Ffn::gelu : Ffn::geglu;
  StoredLayers layers;
  for (const auto& [name, tensor] : shard.tensors()) layers.add(name);
  c.layers = layers.count();
  require(whole(qkv.extent.rows) == 3 * c.hidden, where, ": tensor 'transformer.layers.0.attention.query_key_value.weight' has ", qkv.extent.rows,
          " rows, and ", tp, " shards of it do not make the ", 3 * std::int64_t{c.hidden}, " of a hidden size of ", c.hidden,
          ": parts of the checkpoint are missing");
  require(whole(up.extent.rows) == c.ffn_rows(), where, ": tensor 'transformer.layers.0.mlp.dense_h_to_4h.weight' has ", up.extent.rows,
          " rows, and ", tp, " shards of it do not make the ", c.ffn_rows(), " of a feed-forward of ", c.ffn);
  c.heads = heads_of(c.hidden, heads, where);
  return model;
}

/// Throws Error unless a model can be cut for `tp` ranks.
inline void require_divisible(const ModelConfig& c, int tp, std::string_view where) {
  require(tp >= 1 && c.key_heads() % tp == 0 && c.ffn % tp == 0 && c.vocab % tp == 0, where, ": ", tp, " ranks do not divide this model's ", c.key_heads(), c.key_heads() == c.heads ? "" : " key",
          " heads, feed-forward of ", c.ffn, " and vocabulary of ", c.vocab, ": choose a degree that does");
}

}  // namespace golem
