// Accumulators: where the gradients of each micro-batch are added, and in what order they become one.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "golem/config/training.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/device.hpp"
#include "golem/nn/flat_layout.hpp"

namespace golem {

/// Layers add gradients in A. Of G = A, those of all micro-batches go to one flat buffer; or, with AddLike, to as many as data
/// ranks would have, and the embedding's to one beside that of the head. Of another G, the gradients of one part at a time are
/// added in A, and fold() adds them to the flat buffer of G.
template <class A, class G, Device D>
class Accumulators {
 public:
  using Tensors = StageTensors<View<A, 2>, A>;
  static constexpr bool folds = !std::is_same_v<A, G>;

  /// `gradients` is what join() leaves the sum in.
  Accumulators(D& device, const ModelConfig& c, const std::vector<Stage>& chunks, int tp, const FlatLayout& layout, View<G, 1> gradients, const AddLike& like)
      : device_(&device), layout_(&layout), gradients_(gradients), embedding_extent_(like.stages ? layout.parts().front().extent : 0) {
    if constexpr (folds) {
      require(like.data_ranks == 1 && !like.stages, "TrainingConfig::add_like was set for gradients that are added in two types: use a precision whose gradients are of the master type");
      bind_space(c, chunks, tp);
    } else {
      for (int i = 0; i < like.data_ranks; ++i) {
        if (i > 0) owned_.emplace_back(device, layout.size(), "gradients");
        flat_.push_back(i > 0 ? owned_.back().view() : gradients);
        std::vector<Tensors>& tensors = tensors_.emplace_back();
        for (std::size_t chunk = 0; chunk < chunks.size(); ++chunk) tensors.push_back(layout.bind(c, chunks[chunk], tp, static_cast<int>(chunk), flat_.back()));
        heads_.push_back(tensors.back().embedding);
        if (!like.stages) continue;
        apart_.emplace_back(device, embedding_extent_, "gradients");
        tensors.front().embedding.data = apart_.back().data();
      }
    }
  }

  /// Where a micro-batch adds the gradients of a chunk; and of the head, to the tied embedding.
  const Tensors& tensors(int micro_batch, int chunk) const { return tensors_[turn(micro_batch)][static_cast<std::size_t>(chunk)]; }
  View<A, 2> head(int micro_batch) const { return heads_[turn(micro_batch)]; }

  void clear() {
    device_->clear(gradients_.data, static_cast<std::size_t>(gradients_.size()) * sizeof(G));
    for (const std::vector<Buffer<A, D>>* buffers : {&owned_, &apart_})
      for (const Buffer<A, D>& buffer : *buffers) device_->clear(buffer.data(), buffer.bytes());
  }

  /// Adds what a part has gathered in A to its gradients, rounded once; does nothing where they are the same.
  void fold(int layer, int chunk) {
    if constexpr (folds)
      for (const FlatPart& part : layout_->parts()) {
        if (part.layer != layer || part.chunk != chunk) continue;
        const View<A, 1> space = space_of(part);
        add(*device_, View<G, 1>{gradients_.data + part.offset, part.extent}, View<const A, 1>(space));
        device_->clear(space.data, static_cast<std::size_t>(space.size()) * sizeof(A));
      }
  }

  /// Adds up the accumulators in their order, as data ranks and then stages would.
  void join() {
    if constexpr (!folds) {
      for (std::size_t i = 1; i < flat_.size(); ++i) {
        add(*device_, flat_[0], flat_[i]);
        if (!apart_.empty()) add(*device_, apart_[0].view(), apart_[i].view());
      }
      if (!apart_.empty()) add(*device_, View<A, 1>{flat_[0].data, embedding_extent_}, apart_[0].view());
    }
  }

 private:
  std::size_t turn(int micro_batch) const { return static_cast<std::size_t>(micro_batch) % tensors_.size(); }

  /// One space for the embedding, one for a block, one for the final norm; all blocks take turns in theirs.
  void bind_space(const ModelConfig& c, const std::vector<Stage>& chunks, int tp) {
    layers_ = c.layers;
    for (const FlatPart& part : layout_->parts()) extents_[kind_of(part)] = larger(extents_[kind_of(part)], part.extent);
    owned_.emplace_back(*device_, extents_[0] + extents_[1] + extents_[2], "gradients");
    std::vector<Tensors>& tensors = tensors_.emplace_back();
    for (std::size_t chunk = 0; chunk < chunks.size(); ++chunk)
      tensors.push_back(layout_->bind_at<A>(c, chunks[chunk], tp, static_cast<int>(chunk), [&](const FlatTensor& tensor) {
        const FlatPart& part = layout_->parts()[static_cast<std::size_t>(tensor.part)];
        return space_of(part).data + (tensor.offset - part.offset);
      }));
    heads_.push_back(tensors.back().embedding);
  }
  std::size_t kind_of(const FlatPart& part) const { return part.layer < 0 ? 0 : part.layer < layers_ ? 1 : 2; }
  View<A, 1> space_of(const FlatPart& part) const {
    std::int64_t offset = 0;
    for (std::size_t kind = 0; kind < kind_of(part); ++kind) offset += extents_[kind];
    return {owned_.front().data() + offset, part.extent};
  }

  D* device_;
  const FlatLayout* layout_;
  View<G, 1> gradients_;
  std::int64_t embedding_extent_;
  int layers_ = 0;
  std::int64_t extents_[3] = {};            // of the spaces that fold() empties
  std::vector<Buffer<A, D>> owned_, apart_;
  std::vector<View<A, 1>> flat_;
  std::vector<std::vector<Tensors>> tensors_;  // by accumulator and chunk
  std::vector<View<A, 2>> heads_;              // by accumulator
};

}  // namespace golem
