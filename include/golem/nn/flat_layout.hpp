// FlatLayout: where each tensor of a rank lies in its flat buffers, and which elements a data-parallel rank owns of them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "golem/config/parameters.hpp"
#include "golem/core/error.hpp"
#include "golem/core/math.hpp"
#include "golem/core/stateful.hpp"
#include "golem/nn/tensors.hpp"

namespace golem {

struct FlatTensor {
  Parameter parameter;
  int layer = -1;                     // -1 outside the blocks
  int part = 0;                       // index of its FlatPart
  std::int64_t number = 0;            // in the list of the whole model's tensors, the same on every rank
  std::int64_t offset = 0, size = 0;  // elements
};

/// Tensors that are reduced over the data ranks, and cut among them, as one: the embedding, a block, or the final norm.
struct FlatPart {
  int layer = -1;  // -1: the embedding; the model's number of layers: the final norm
  int chunk = 0;
  std::int64_t offset = 0, extent = 0;
};

/// The tensors of all chunks of a rank, one after the other. Each begins at a whole cache line.
class FlatLayout {
 public:
  FlatLayout() = default;
  /// `shards`: among how many data ranks the state of each part is cut evenly (ZeRO-1), or 1.
  FlatLayout(const ModelConfig& c, const std::vector<Stage>& chunks, int tp, int shards) : shards_(shards) {
    for (std::size_t chunk = 0; chunk < chunks.size(); ++chunk) {
      for_each_parameter(c, chunks[chunk], [&](const Parameter& parameter, int layer) {
        const bool embedding = tensors_.size() == first_tensor_of(chunk) && (chunks[chunk].embedding || chunks[chunk].head);
        const int part_layer = layer >= 0 ? layer : embedding ? -1 : c.layers;
        if (parts_.empty() || parts_.back().layer != part_layer || parts_.back().chunk != static_cast<int>(chunk)) {
          close_part();
          parts_.push_back({part_layer, static_cast<int>(chunk), size_, 0});
        }
        tensors_.push_back({parameter, layer, static_cast<int>(parts_.size()) - 1, number(c, part_layer), size_, parameter.local_size(tp)});
        size_ += round_up(tensors_.back().size, line);
      });
      close_part();
      chunk_ends_.push_back(tensors_.size());
    }
  }

  const std::vector<FlatTensor>& tensors() const { return tensors_; }
  const std::vector<FlatPart>& parts() const { return parts_; }
  std::int64_t size() const { return size_; }
  int shards() const { return shards_; }

  /// Elements that one data rank owns, and where they begin: all of it where nothing is cut. In a buffer of owned elements
  /// alone, those of a part begin at its offset / shards.
  std::int64_t owned_size() const { return size_ / shards_; }
  std::int64_t owned_extent(const FlatPart& part) const { return part.extent / shards_; }
  std::int64_t owned_begin(const FlatPart& part, int data_rank) const { return part.offset + (shards_ > 1 ? data_rank * owned_extent(part) : 0); }

  /// The piece of a tensor that a data rank owns: `count` elements from element `begin` of the tensor on, at `owned` of a
  /// buffer of owned elements.
  struct Piece {
    std::int64_t begin = 0, count = 0, owned = 0;
  };
  Piece piece(const FlatTensor& tensor, int data_rank) const {
    const FlatPart& part = parts_[static_cast<std::size_t>(tensor.part)];
    const std::int64_t own = owned_begin(part, data_rank), end = own + owned_extent(part);
    const std::int64_t first = larger(own, tensor.offset), last = smaller(end, tensor.offset + tensor.size);
    if (first >= last) return {0, 0, 0};
    return {first - tensor.offset, last - first, part.offset / shards_ + first - own};
  }

  /// The tensors of a chunk as views, each at the address that place(tensor) says.
  template <class T, class Place>
  StageTensors<View<T, 2>, T> bind_at(const ModelConfig& c, const Stage& stage, int tp, int chunk, Place place) const {
    StageTensors<View<T, 2>, T> views(stage);
    std::size_t next = first_tensor_of(static_cast<std::size_t>(chunk));
    views.visit(c, stage, [&](const Parameter& parameter, int, auto& view) { bind_view(view, place(tensors_[next++]), parameter, tp); });
    return views;
  }
  /// The same, in a flat buffer of size() elements.
  template <class T>
  StageTensors<View<T, 2>, T> bind(const ModelConfig& c, const Stage& stage, int tp, int chunk, View<T, 1> flat) const {
    require(flat.size() == size_, "tensors of ", size_, " elements were bound to a buffer of ", flat.size());
    return bind_at<T>(c, stage, tp, chunk, [&](const FlatTensor& tensor) { return flat.data + tensor.offset; });
  }

 private:
  static constexpr std::int64_t line = 64;  // elements: whole cache lines of every type

  std::size_t first_tensor_of(std::size_t chunk) const { return chunk == 0 ? 0 : chunk_ends_[chunk - 1]; }

  /// Rounds the last part up to equal shards of whole lines.
  void close_part() {
    if (parts_.empty()) return;
    FlatPart& part = parts_.back();
    part.extent = round_up(size_ - part.offset, line * shards_);
    size_ = part.offset + part.extent;
  }

  /// The embedding, then each block's tensors, then the final norm's.
  std::int64_t number(const ModelConfig& c, int part_layer) const {
    const auto in_part = static_cast<std::int64_t>(tensors_.size()) - first_of_last_part();
    const auto per_block = static_cast<std::int64_t>(block_parameters(c).size());
    return part_layer < 0 ? 0 : 1 + part_layer * per_block + in_part;
  }
  std::int64_t first_of_last_part() const {
    auto first = static_cast<std::int64_t>(tensors_.size());
    while (first > 0 && tensors_[static_cast<std::size_t>(first - 1)].part == static_cast<int>(parts_.size()) - 1) --first;
    return first;
  }

  int shards_ = 1;
  std::int64_t size_ = 0;
  std::vector<FlatTensor> tensors_;
  std::vector<FlatPart> parts_;
  std::vector<std::size_t> chunk_ends_;
};

/// Tensors of the whole model.
constexpr std::int64_t tensor_count(const ModelConfig& c) {
  return 1 + c.layers * static_cast<std::int64_t>(block_parameters(c).size()) + static_cast<std::int64_t>(final_parameters(c).size());
}

}  // namespace golem
