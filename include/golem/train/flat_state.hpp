// FlatState: weights, gradients, master weights and moments of a rank in flat buffers; how they begin, move, and are saved.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "golem/comm/world.hpp"
#include "golem/config/precision.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/device.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/core/stateful.hpp"
#include "golem/nn/flat_layout.hpp"
#include "golem/nn/initialize.hpp"

namespace golem {

/// Where a rank stands among those that hold parts of the same model.
struct Place {
  int tp = 1, tensor_rank = 0, data_rank = 0;
  bool speaks_for_embedding = true;  // of two stages that hold it, the first does
};

/// Gradients are whole. Weights are whole, in the compute type; the master weights, where they are
/// kept apart, and the moments are those of the elements that this data rank owns (FlatLayout).
template <TrainingPrecision P, Device D>
class FlatState {
 public:
  using T = typename P::compute;
  using A = typename P::master;
  using G = typename P::gradient;

  FlatState(D& device, FlatLayout layout, const Place& place) : device_(&device), layout_(std::move(layout)), place_(place) {
    weights_ = Buffer<T, D>(device, layout_.size(), has_master_copy<P> ? "weights" : "master weights");
    gradients_ = Buffer<G, D>(device, layout_.size(), "gradients");
    if constexpr (has_master_copy<P>) master_ = Buffer<A, D>(device, layout_.owned_size(), "master weights");
    moment1_ = Buffer<A, D>(device, layout_.owned_size(), "moments");
    moment2_ = Buffer<A, D>(device, layout_.owned_size(), "moments");
  }

  const FlatLayout& layout() const { return layout_; }
  const Place& place() const { return place_; }
  View<T, 1> weights() const { return weights_.view(); }
  View<G, 1> gradients() const { return gradients_.view(); }
  /// What the optimizer moves: the owned elements, or, without a copy in another type, all weights.
  View<A, 1> master() const {
    if constexpr (has_master_copy<P>) return master_.view();
    else return weights_.view();
  }

  /// Whether this rank counts its owned elements of a tensor, where each element of the model is to count once.
  bool speaks_for(const FlatTensor& tensor) const {
    const bool among_tensor_ranks = tensor.parameter.shard != Shard::replicated || place_.tensor_rank == 0;
    return among_tensor_ranks && (layout_.shards() > 1 || place_.data_rank == 0) && (tensor.number != 0 || place_.speaks_for_embedding);
  }

  /// The owned elements of a tensor, in the master type.
  View<A, 1> owned_master(const FlatTensor& tensor) const {
    const FlatLayout::Piece piece = layout_.piece(tensor, place_.data_rank);
    return {master_at(tensor, piece), piece.count};
  }

  /// The same elements of both moments.
  std::array<View<A, 1>, 2> owned_moments(const FlatTensor& tensor) const {
    const FlatLayout::Piece piece = layout_.piece(tensor, place_.data_rank);
    return {{{moment1_.data() + piece.owned, piece.count}, {moment2_.data() + piece.owned, piece.count}}};
  }

  /// Makes this rank's shard of the model that `seed` stands for (spec 1.9).
  void initialize(const ModelConfig& c, std::uint64_t seed) {
    int threads = static_cast<int>(std::thread::hardware_concurrency());
    if constexpr (requires { device_->threads(); }) threads = device_->threads();  // this rank's share of the host
    std::vector<A> host;
    std::vector<T> rounded;
    for (const FlatTensor& tensor : layout_.tensors()) {
      const Parameter& p = tensor.parameter;
      host.resize(static_cast<std::size_t>(tensor.size));
      fill_initial(std::span(host), c, p, full_name(p, tensor.layer), seed, place_.tp, place_.tensor_rank, threads);
      if constexpr (has_master_copy<P>) {
        const FlatLayout::Piece piece = layout_.piece(tensor, place_.data_rank);
        device_->copy_in(master_.data() + piece.owned, host.data() + piece.begin, static_cast<std::size_t>(piece.count) * sizeof(A));
        rounded.assign(host.size(), T{});
        for (std::size_t i = 0; i < host.size(); ++i) rounded[i] = static_cast<T>(host[i]);
        device_->copy_in(weights_.data() + tensor.offset, rounded.data(), rounded.size() * sizeof(T));
      } else {
        device_->copy_in(weights_.data() + tensor.offset, host.data(), host.size() * sizeof(A));
      }
    }
  }

  /// One AdamW step of the owned elements of a tensor.
  void update(const FlatTensor& tensor, const AdamwStep& step) {
    const FlatLayout::Piece piece = layout_.piece(tensor, place_.data_rank);
    if (piece.count == 0) return;
    const std::int64_t at = tensor.offset + piece.begin;
    AdamwTensors<A, T, G> tensors{.master = owned_master(tensor),
                                  .moment1 = {moment1_.data() + piece.owned, piece.count},
                                  .moment2 = {moment2_.data() + piece.owned, piece.count},
                                  .compute = {},
                                  .gradient = {gradients_.data() + at, piece.count}};
    if constexpr (has_master_copy<P>) tensors.compute = {weights_.data() + at, piece.count};
    adamw(*device_, tensors, step);
  }

  /// squares (1), on the device: the sum of squares of the gradient of a tensor, or of the owned piece of it.
  void add_up_gradient(View<double, 1> squares, const FlatTensor& tensor) {
    const FlatLayout::Piece piece = layout_.piece(tensor, place_.data_rank);
    add_up_squares<G>(*device_, squares, View<const G, 1>{gradients_.data() + tensor.offset + piece.begin, piece.count});
  }

  /// Starts putting the weights of a part together from what each data rank owns of it.
  Pending gather(const FlatPart& part, Group& data) {
    if (layout_.shards() == 1) return {};
    const View<T, 1> all = weights_.view_at(part.offset, part.extent), own = weights_.view_at(layout_.owned_begin(part, place_.data_rank), layout_.owned_extent(part));
    return data.start_all_gather(all, View<const T, 1>(own));
  }

  /// Shows every tensor with its moments; after a load, the weights in the compute type follow from the masters. With
  /// masters cut among data ranks, the weights of the others' pieces are then still to be gathered.
  void visit_state(StateVisitor& visitor) {
    visit_buffer(visitor, "", master(), has_master_copy<P> ? Elements::owned : Elements::all, staged_[0]);
    visit_buffer(visitor, "optimizer.moment1.", moment1_.view(), Elements::owned, staged_[1]);
    visit_buffer(visitor, "optimizer.moment2.", moment2_.view(), Elements::owned, staged_[2]);
    if constexpr (has_master_copy<P>) {
      if (visitor.loading())
        for (const FlatPart& part : layout_.parts())
          convert(*device_, weights_.view_at(layout_.owned_begin(part, place_.data_rank), layout_.owned_extent(part)),
                  master_.view_at(part.offset / layout_.shards(), layout_.owned_extent(part)));
    }
  }

 private:
  A* master_at(const FlatTensor& tensor, const FlatLayout::Piece& piece) const {
    if constexpr (has_master_copy<P>) return master_.data() + piece.owned;
    else return weights_.data() + tensor.offset + piece.begin;
  }

  enum class Elements : std::uint8_t { all, owned };  // what a buffer holds

  void visit_buffer(StateVisitor& visitor, const char* prefix, View<A, 1> buffer, Elements elements, std::vector<A>& staged) {
    A* data = buffer.data;
    if constexpr (!D::host_memory) {
      staged.resize(static_cast<std::size_t>(buffer.size()));
      device_->copy_out(staged.data(), buffer.data, staged.size() * sizeof(A));
      data = staged.data();
    }
    for (const FlatTensor& tensor : layout_.tensors()) {
      const Parameter& p = tensor.parameter;
      const FlatLayout::Piece piece = elements == Elements::owned ? layout_.piece(tensor, place_.data_rank) : FlatLayout::Piece{0, tensor.size, tensor.offset};
      TensorState state{.name = prefix + full_name(p, tensor.layer),
                        .type = dtype_of<A>(),
                        .shape = {p.rows},
                        .data = data + piece.owned,
                        .bytes = static_cast<std::size_t>(piece.count) * sizeof(A)};
      if (p.columns) state.shape.push_back(p.columns);
      if (piece.count != p.size()) state.slice = slice_of(p, place_.tp, place_.tensor_rank, piece.begin, piece.count);
      state.owned = speaks_for(tensor) && (elements == Elements::owned || place_.data_rank == 0);
      visitor.tensor(state);
    }
    if constexpr (!D::host_memory) {
      if (visitor.loading()) device_->copy_in(buffer.data, staged.data(), staged.size() * sizeof(A));
    }
  }

  D* device_;
  FlatLayout layout_;
  Place place_;
  Buffer<T, D> weights_;
  Buffer<G, D> gradients_;
  Buffer<A, D> master_, moment1_, moment2_;
  std::vector<A> staged_[3];  // host copies that a visitor reads, where the device's memory is not the host's
};

}  // namespace golem
