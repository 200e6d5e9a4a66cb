// SatWeights: a released checkpoint as a TensorSource, for a rank of whatever tensor-parallel degree, whatever degree it was saved at.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/config/parameters.hpp"
#include "golem/core/error.hpp"
#include "golem/core/slice.hpp"
#include "golem/core/stateful.hpp"
#include "golem/io/element_conversion.hpp"
#include "golem/io/finite.hpp"
#include "golem/io/sat_checkpoint.hpp"

namespace golem {

struct SatOptions {
  bool sums = true;  // compare the CRC of what a tensor lies in when it is first asked for; false: for who has just verified the files
};

/// Reads out of the memory maps of the shards, and lets their pages go at once. For one thread.
class SatWeights : public TensorSource {
 public:
  /// For rank `rank` of `tp`; `checkpoint` must outlive it. Throws Error where the model cannot be cut for that many, or is quantised for another
  /// number: scales are of a rank's rows (spec 5.1).
  SatWeights(const SatCheckpoint& checkpoint, const SatModel& model, int tp = 1, int rank = 0, SatOptions options = {})
      : checkpoint_(&checkpoint), model_(model), tp_(tp), rank_(rank), options_(options) {
    require_divisible(model.config, tp, sentence("cannot load '", checkpoint.folder(), "'"));
    require(rank >= 0 && rank < tp, "rank ", rank, " is none of ", tp, " ranks");
    require(model.bits == 0 || tp == checkpoint.tp(), "'", checkpoint.folder(), "' was quantised for ", checkpoint.tp(),
            " ranks, and cannot be loaded by ", tp, ": its scales are of each rank's rows; quantise the fp16 checkpoint for ", tp);
    for_each_parameter(model_.config, whole(model_.config),
                       [&](const Parameter& parameter, int layer) { parameters_.emplace(full_name(parameter, layer), parameter); });
  }

  bool has(const std::string& name) const override {
    if (model_.bits > 0 && name.ends_with("_scale")) return checkpoint_->shard(0).find(name) != nullptr;
    return parameters_.contains(name);
  }

  /// Fills the rank's part of a tensor, wanted in that shape; or, where a slice is wanted, that slice of the full one. Floating types are converted,
  /// rounding once; quantised matrices are as they are stored, with the scales of this rank. Throws Error naming the shard where a tensor is missing,
  /// has another shape, has NaN or infinity in it, or is not what was written.
  void read(const TensorState& wanted) const override {
    const std::string where = sentence("cannot load tensor '", wanted.name, "' from '", checkpoint_->folder(), "'");
    const bool scale = model_.bits > 0 && wanted.name.ends_with("_scale");
    const auto found = parameters_.find(scale ? wanted.name.substr(0, wanted.name.size() - 6) : wanted.name);
    require(found != parameters_.end(), where, ": no GLM of this shape has it");
    const Parameter p = stored_parameter(found->second, scale);
    std::vector<std::int64_t> full{p.rows}, local{p.local_rows(tp_)};
    if (p.columns > 0) full.push_back(p.columns), local.push_back(p.local_columns(tp_));
    require(wanted.shape == (wanted.slice ? full : local), where, ": it is of shape ", safetensors::shape_text(wanted.slice ? full : local),
            model_.bits > 0 ? sentence(" in ", model_.bits, " bits") : std::string(), ", expected ", safetensors::shape_text(wanted.shape));
    const Slice slice = wanted.slice.value_or(slice_of(p, tp_, rank_, 0, p.local_size(tp_)));
    check_slice(slice, matrix_extent(full, where), where);
    require(static_cast<std::uint64_t>(slice.size()) * static_cast<std::uint64_t>(size_of(wanted.type)) == wanted.bytes, where, ": memory of ",
            wanted.bytes, " bytes for ", slice.size(), " elements");
    const bool of_rank = scale && p.shard == Shard::columns;  // each rank has scales of its own for these rows
    const int first = of_rank ? rank_ : 0, last = of_rank ? rank_ : p.shard == Shard::replicated ? 0 : checkpoint_->tp() - 1;
    for (int rank = first; rank <= last; ++rank) read_from(rank, wanted, p, slice, where);
  }

 private:
  /// A parameter as this checkpoint stores it, or its scales.
  Parameter stored_parameter(Parameter p, bool scale) const {
    if (model_.bits == 0 || !p.quantized) return p;
    p.columns = scale ? 0 : model_.bits == 4 ? p.columns / 2 : p.columns;
    p.quantized = !scale;
    return p;
  }

  /// What a shard has of a slice.
  void read_from(int rank, const TensorState& wanted, const Parameter& p, const Slice& slice, std::string_view where) const {
    const SatTensor& tensor = stored(rank, wanted.name, p, where);
    const std::byte *first = nullptr, *last = nullptr;
    for_each_shared(SliceBlocks(slice_of(p, checkpoint_->tp(), rank, 0, p.local_size(checkpoint_->tp()))), SliceBlocks(slice),
                    [&](std::int64_t from, std::int64_t at, std::int64_t count) {
                      SatShard::for_each_run(tensor, from, count, [&](const std::byte* bytes, std::int64_t element, std::int64_t elements) {
                        copy(wanted, at + element - from, tensor, bytes, elements, rank);
                        first = first && first < bytes ? first : bytes, last = std::max(last, bytes + elements * size_of(tensor.type));
                      });
                    });
    if (first) checkpoint_->shard(rank).archive().file().release(first, static_cast<std::size_t>(last - first));
  }

  /// A parameter's part in a shard, proved to be of the shape that it must have there.
  const SatTensor& stored(int rank, const std::string& name, const Parameter& p, std::string_view where) const {
    const SatShard& shard = checkpoint_->shard(rank);
    const SatTensor* const tensor = shard.find(name);
    require(tensor, where, ": '", shard.path(), "' does not have it");
    std::vector<std::int64_t> expected{p.local_rows(checkpoint_->tp())};
    if (p.columns > 0) expected.push_back(p.local_columns(checkpoint_->tp()));
    const bool sound = model_.bits > 0 && p.quantized ? tensor->type == DType::i8 : is_floating(tensor->type);
    require(tensor->shape == expected && sound, where, ": in '", shard.path(), "' it is ", name_of(tensor->type), " ",
            safetensors::shape_text(tensor->shape), ", expected ", safetensors::shape_text(expected));
    if (options_.sums) prove(shard.archive(), *tensor, where);
    return *tensor;
  }

  /// The bytes of the entry that a tensor lies in, and of the pickle that says so, are those that were written.
  void prove(const ZipArchive& archive, const SatTensor& tensor, std::string_view where) const {
    const auto place = static_cast<std::uint64_t>(tensor.data - archive.file().data());
    for (const ZipEntry& entry : archive.entries()) {
      const bool holds = place >= entry.offset && place - entry.offset < entry.bytes;
      if ((!holds && !entry.name.ends_with("/data.pkl")) || proved_.contains(&entry)) continue;
      const std::string damage = archive.damage_of(entry, [](std::span<const std::byte>) {});
      require(damage.empty(), where, ": ", damage);
      proved_.insert(&entry);
    }
  }

  void copy(const TensorState& wanted, std::int64_t at, const SatTensor& tensor, const std::byte* from, std::int64_t count, int rank) const {
    const std::int64_t index = first_not_finite(tensor.type, from, static_cast<std::uint64_t>(count * size_of(tensor.type)));
    require(index < 0, "'", checkpoint_->shard(rank).path(), "': tensor '", wanted.name, "' has NaN or infinity, at offset ",
            from + index * size_of(tensor.type) - checkpoint_->shard(rank).archive().file().data(), " of the file");
    convert_elements(static_cast<std::byte*>(wanted.data) + at * size_of(wanted.type), wanted.type, from, tensor.type, count, wanted.name);
  }

  const SatCheckpoint* checkpoint_;
  SatModel model_;
  int tp_, rank_;
  SatOptions options_;
  std::map<std::string, Parameter, std::less<>> parameters_;
  mutable std::set<const ZipEntry*> proved_;
};

}  // namespace golem
