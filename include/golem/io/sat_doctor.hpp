// The doctor of released checkpoints: looks at everything, and tells all that is wrong, each in one sentence.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/io/doctor_options.hpp"
#include "golem/io/element_conversion.hpp"
#include "golem/io/finite.hpp"
#include "golem/io/sat_checkpoint.hpp"

namespace golem {

namespace sat {

/// Whether two tensors of one shape and type hold the same bits, whatever their strides. No copy is made: they may be of any size.
inline bool same_values(const SatTensor& one, const SatTensor& other) {
  bool same = true;
  SatShard::for_each_run(one, 0, one.extent.size(), [&](const std::byte* bytes, std::int64_t first, std::int64_t count) {
    if (!same) return;
    SatShard::for_each_run(other, first, count, [&](const std::byte* beside, std::int64_t element, std::int64_t elements) {
      const std::int64_t size = size_of(one.type);
      same = same && std::memcmp(bytes + (element - first) * size, beside, static_cast<std::size_t>(elements * size)) == 0;
    });
  });
  return same;
}

class Doctor {
 public:
  Doctor(const std::string& path, const DoctorOptions& options) : path_(path), options_(options) {}

  /// Empty where the checkpoint is sound. Each byte is read once; pages are let go behind it.
  std::vector<std::string> findings() {
    if (!note([&] { folder_ = find_folder(path_); })) return findings_;
    if (std::error_code ignored; !std::filesystem::exists(path_, ignored)) {
      find(sentence("there is no '", path_, "' to look at: give the folder of a checkpoint"));
      return findings_;
    }
    if (folder_.empty()) {
      find(sentence("'", path_, "' is no released checkpoint: it has neither ", shard_name(0), " nor a file 'latest' that names a folder with it"));
      return findings_;
    }
    open_shards();
    if (shards_.empty()) return findings_;
    look_at_names();
    for (const Opened& opened : shards_)
      for (const ZipEntry& entry : opened.shard->archive().entries()) total_ += entry.bytes;
    for (const Opened& opened : shards_) look_at_bytes(*opened.shard);
    look_at_replicas();
    if (complete_) look_at_model();
    return findings_;
  }

 private:
  struct Opened {
    int rank;
    std::unique_ptr<SatShard> shard;
  };

  void find(std::string sentence) { findings_.push_back(std::move(sentence)); }
  template <class Action>
  bool note(Action action) {
    try {
      action();
      return true;
    } catch (const Error& error) {
      find(error.what());
      return false;
    }
  }

  void open_shards() {
    std::vector<int> ranks;
    if (!note([&] { ranks = ranks_in(folder_); })) return;
    if (ranks.empty()) find(sentence("the checkpoint '", folder_, "' has no file like ", shard_name(0)));
    for (int rank = 0; !ranks.empty() && rank < ranks.back(); ++rank)
      if (!std::binary_search(ranks.begin(), ranks.end(), rank))
        find(sentence("'", folder_, "' lacks ", shard_name(rank), ": copy or download it again"));
    for (const int rank : ranks) note([&] { shards_.push_back({rank, std::make_unique<SatShard>(folder_ + "/" + shard_name(rank))}); });
    complete_ = !ranks.empty() && shards_.size() == static_cast<std::size_t>(ranks.back()) + 1;
  }

  /// Every shard has the same tensors, in the same types and shapes.
  void look_at_names() {
    const SatShard& first = *shards_.front().shard;
    for (const Opened& opened : shards_) {
      if (opened.shard.get() == &first) continue;
      for (const auto& [name, tensor] : first.tensors()) {
        const SatTensor* const other = opened.shard->find(name);
        if (!other)
          find(sentence("'", opened.shard->path(), "' has no tensor '", printable(name), "', and '", first.path(), "' has"));
        else if (other->shape != tensor.shape || other->type != tensor.type)
          find(sentence("'", opened.shard->path(), "': tensor '", printable(name), "' is ", name_of(other->type), " ",
                        safetensors::shape_text(other->shape), ", and in '", first.path(), "' it is ", name_of(tensor.type), " ",
                        safetensors::shape_text(tensor.shape)));
      }
      for (const auto& [name, tensor] : opened.shard->tensors())
        if (!first.find(name)) find(sentence("'", opened.shard->path(), "' has a tensor '", printable(name), "', and '", first.path(), "' has not"));
    }
  }

  /// CRCs, and numbers that are none.
  void look_at_bytes(const SatShard& shard) {
    std::multimap<const std::byte*, std::pair<const std::string*, const SatTensor*>> tensors;
    for (const auto& [name, tensor] : shard.tensors()) tensors.emplace(tensor.data, std::pair{&name, &tensor});
    for (const ZipEntry& entry : shard.archive().entries()) {
      const std::byte* const begin = shard.archive().bytes(entry).data();
      std::set<const std::string*> told;
      std::string damage = shard.archive().damage_of(entry, [&](std::span<const std::byte> part) {
        for (auto view = tensors.lower_bound(begin); view != tensors.end() && view->first < part.data() + part.size(); ++view)
          look_at_numbers(shard, *view->second.first, *view->second.second, part, told);
        require(!options_.on_progress || options_.on_progress(done_ += part.size(), total_), "stopped");
      });
      if (!damage.empty()) find(std::move(damage));
    }
  }

  /// What a view has of a piece of its storage. A view with gaps is looked at from its first to its last element.
  void look_at_numbers(const SatShard& shard, const std::string& name, const SatTensor& tensor, std::span<const std::byte> part,
                       std::set<const std::string*>& told) {
    const std::int64_t size = size_of(tensor.type);
    const std::byte *begin = std::max(tensor.data, part.data()), *end = std::min(tensor.data + tensor.reach * size, part.data() + part.size());
    if (begin >= end || told.contains(&name)) return;
    const std::int64_t index = first_not_finite(tensor.type, begin, static_cast<std::uint64_t>(end - begin));
    if (index < 0) return;
    told.insert(&name);
    find(sentence("'", shard.path(), "': tensor '", printable(name), "' has NaN or infinity, at offset ",
                  begin + index * size - shard.archive().file().data(), " of the file"));
  }

  /// Shards agree on what is replicated.
  void look_at_replicas() {
    const SatShard& first = *shards_.front().shard;
    for (const auto& entry : first.tensors()) {
      const std::string& name = entry.first;
      const SatTensor& tensor = entry.second;
      const auto ends = [&](std::string_view end) { return name.ends_with(end); };
      const bool replicated = name.find("layernorm") != std::string::npos || ends("attention.dense.bias") || ends("dense_4h_to_h.bias");
      if (!replicated) continue;
      for (const Opened& opened : shards_) {
        const SatTensor* const other = opened.shard->find(name);
        if (other && other->shape == tensor.shape && other->type == tensor.type && !same_values(tensor, *other))
          find(sentence("'", opened.shard->path(), "' and '", first.path(), "' have different values of '", printable(name),
                        "', which all ranks share: they are of different checkpoints"));
      }
    }
  }

  /// Names and shapes are those of a GLM, and of the model that it should be.
  void look_at_model() {
    SatModel model;
    std::unique_ptr<SatCheckpoint> checkpoint;
    if (!note([&] {
          checkpoint = std::make_unique<SatCheckpoint>(folder_);
          model = sat_model(*checkpoint, options_.model ? options_.model->heads : options_.heads);
        }))
      return;
    const std::vector<std::string> others = differences(model.config, options_.model ? *options_.model : model.config);
    for (const std::string& difference : others) find(sentence("'", folder_, "' has ", difference));
    if (!others.empty()) return;  // every shape would be another
    const SatShard& shard = *shards_.front().shard;
    std::set<std::string, std::less<>> known;
    for_each_parameter(model.config, whole(model.config),
                       [&](const Parameter& p, int layer) { look_at(shard, p, full_name(p, layer), model.bits, known); });
    for (const auto& [name, tensor] : shard.tensors())
      if (!known.contains(name) && !name.ends_with("rotary_emb.inv_freq"))
        find(sentence("'", shard.path(), "' has a tensor '", printable(name), "', which no GLM has"));
  }

  void look_at(const SatShard& shard, const Parameter& p, const std::string& name, int bits, std::set<std::string, std::less<>>& known) {
    const int tp = static_cast<int>(shards_.size());
    const bool quantized = bits > 0 && p.quantized;
    std::vector<std::int64_t> shape{p.local_rows(tp)};
    if (p.columns > 0) shape.push_back(p.local_columns(tp) / (quantized && bits == 4 ? 2 : 1));
    const auto expect = [&](const std::string& wanted, const std::vector<std::int64_t>& of, std::optional<DType> type) {
      known.insert(wanted);
      const SatTensor* const found = shard.find(wanted);
      if (!found) find(sentence("'", shard.path(), "' has no tensor '", wanted, "'"));
      if (found && (found->shape != of || !(type ? found->type == *type : is_floating(found->type))))
        find(sentence("'", shard.path(), "': tensor '", wanted, "' is ", name_of(found->type), " ", safetensors::shape_text(found->shape),
                      ", expected ", type ? name_of(*type) : "a floating type", " ", safetensors::shape_text(of)));
    };
    expect(name, shape, quantized ? std::optional(DType::i8) : std::nullopt);
    if (quantized) expect(name + "_scale", {shape[0]}, DType::f16);
  }

  std::string path_, folder_;
  DoctorOptions options_;
  std::deque<Opened> shards_;
  std::vector<std::string> findings_;
  bool complete_ = false;  // every part is there and could be opened
  std::uint64_t done_ = 0, total_ = 0;
};

}  // namespace sat

/// Looks at every byte of a released checkpoint: parts that are missing, files that are cut, sizes, types and shapes, CRCs, NaN and infinity, shards
/// that disagree, names that do not fit the model. One sentence for each finding; none where it is sound.
inline std::vector<std::string> examine_sat_checkpoint(const std::string& path, const DoctorOptions& options = {}) {
  return sat::Doctor(path, options).findings();
}

}  // namespace golem
