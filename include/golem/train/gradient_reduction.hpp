// GradientReduction: adds up the gradients of the ranks that hold the same tensors, part by part, while the backward pass goes on.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>
#include <vector>

#include "golem/comm/world.hpp"
#include "golem/nn/flat_layout.hpp"

namespace golem {

/// Three sums, in this order (spec 4.1): over the tensor ranks, of norms under sequence parallelism; over the data ranks, of
/// everything, and where state is cut among them (ZeRO-1), only to the rank that owns each element; over the first and the
/// last stage, of the tied embedding.
template <class G>
class GradientReduction {
 public:
  /// The layout and the memory of `gradients` must outlive it.
  GradientReduction(const FlatLayout& layout, const World& world, View<G, 1> gradients) : layout_(&layout), world_(world), gradients_(gradients) {}

  /// This rank's gradients of a part are complete: starts adding them up. All ranks start the parts in the same order.
  void start(int layer, int chunk) {
    for (const FlatPart& part : layout_->parts()) {
      if (part.layer != layer || part.chunk != chunk) continue;
      if (world_.layout().sequence_parallel && world_.layout().tp > 1) sum_norms(part);
      if (world_.layout().dp == 1) continue;
      const View<G, 1> all{gradients_.data + part.offset, part.extent}, own{gradients_.data + layout_->owned_begin(part, world_.data_rank()), layout_->owned_extent(part)};
      if (layout_->shards() > 1) pending_.push_back(world_.data().start_reduce_scatter(own, View<const G, 1>(all), Reduce::sum));
      else pending_.push_back(world_.data().start_all_reduce(all, Reduce::sum));
    }
  }

  /// Returns when every part is complete.
  void finish() {
    for (Pending& pending : std::exchange(pending_, {})) pending.wait();
    if (world_.tied().size() == 1) return;
    for (const FlatPart& part : layout_->parts())
      if (part.layer == -1) world_.tied().all_reduce(View<G, 1>{gradients_.data + layout_->owned_begin(part, world_.data_rank()), layout_->owned_extent(part)}, Reduce::sum);
  }

 private:
  void sum_norms(const FlatPart& part) {
    for (const FlatTensor& tensor : layout_->tensors()) {
      const bool here = &layout_->parts()[static_cast<std::size_t>(tensor.part)] == &part;
      if (here && tensor.parameter.norm) world_.tensor().all_reduce(View<G, 1>{gradients_.data + tensor.offset, tensor.size}, Reduce::sum);
    }
  }

  const FlatLayout* layout_;
  World world_;
  View<G, 1> gradients_;
  std::vector<Pending> pending_;
};

}  // namespace golem
