// Accumulators: where the gradients of each micro-batch are added, and in what order they become one.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "golem/config/training.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/device.hpp"
#include "golem/nn/flat_layout.hpp"

namespace golem {

/// The gradients of all micro-batches go to one flat buffer; or, with AddLike, to as many as data ranks would have, and the
/// embedding's to one beside that of the head.
template <class A, Device D>
class Accumulators {
 public:
  using Tensors = StageTensors<View<A, 2>, A>;

  /// `gradients` is what join() leaves the sum in.
  Accumulators(D& device, const ModelConfig& c, const std::vector<Stage>& chunks, int tp, const FlatLayout& layout, View<A, 1> gradients, const AddLike& like)
      : device_(&device), embedding_extent_(like.stages ? layout.parts().front().extent : 0) {
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

  /// Where a micro-batch adds the gradients of a chunk; and of the head, to the tied embedding.
  const Tensors& tensors(int micro_batch, int chunk) const { return tensors_[turn(micro_batch)][static_cast<std::size_t>(chunk)]; }
  View<A, 2> head(int micro_batch) const { return heads_[turn(micro_batch)]; }

  void clear() {
    for (const View<A, 1>& flat : flat_) device_->clear(flat.data, static_cast<std::size_t>(flat.size()) * sizeof(A));
    for (const Buffer<A, D>& apart : apart_) device_->clear(apart.data(), apart.bytes());
  }

  /// Adds up the accumulators in their order, as data ranks and then stages would.
  void join() {
    for (std::size_t i = 1; i < flat_.size(); ++i) {
      add(flat_[0], flat_[i]);
      if (!apart_.empty()) add(apart_[0].view(), apart_[i].view());
    }
    if (!apart_.empty()) add({flat_[0].data, embedding_extent_}, apart_[0].view());
  }

 private:
  std::size_t turn(int micro_batch) const { return static_cast<std::size_t>(micro_batch) % tensors_.size(); }
  void add(View<A, 1> to, View<A, 1> more) {
    const View<A, 2> y = to.reshaped(to.size() / 64, 64);
    add_scaled(*device_, y, y, more.reshaped(more.size() / 64, 64), 1.0);
  }

  D* device_;
  std::int64_t embedding_extent_;
  std::vector<Buffer<A, D>> owned_, apart_;
  std::vector<View<A, 1>> flat_;
  std::vector<std::vector<Tensors>> tensors_;  // by accumulator and chunk
  std::vector<View<A, 2>> heads_;              // by accumulator
};

}  // namespace golem
