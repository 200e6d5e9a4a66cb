// The memory of a stage's passes: what a micro-batch keeps from its forward to its backward, and the space that all passes share.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "golem/config/parameters.hpp"
#include "golem/config/training.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/device.hpp"
#include "golem/nn/activations.hpp"

namespace golem {

/// What a forward pass keeps; what is not kept is computed again.
enum class Keep : std::uint8_t {
  nothing,            // no backward pass follows
  split_inputs,       // each block's input, cut over the tensor ranks
  inputs,             // each block's input
  all_but_attention,
  all,
};

constexpr Keep keep_of(Recompute recompute) {
  switch (recompute) {
    case Recompute::none: return Keep::all;
    case Recompute::attention: return Keep::all_but_attention;
    case Recompute::block: return Keep::inputs;
    case Recompute::block_split: return Keep::split_inputs;
  }
  return Keep::all;
}

constexpr bool keeps_activations(Keep keep) { return keep == Keep::all || keep == Keep::all_but_attention; }

/// What one micro-batch keeps of one stage.
template <class T>
struct KeptActivations {
  std::vector<View<T, 2>> inputs;           // of each block, (own, C), or (N/tp, C) where split; before a head, the last output too
  std::vector<BlockActivations<T>> blocks;  // of each block

  void take(Arena& arena, const ModelConfig& c, int tp, const TokenCount& n, Keep keep, const Stage& stage) {
    const std::size_t count = static_cast<std::size_t>(stage.last - stage.first);
    inputs.resize(keep == Keep::nothing ? 0 : larger<std::size_t>(1, count + (stage.head ? 1 : 0)));  // a stage may have no block
    for (View<T, 2>& input : inputs) input = arena.take<T>(keep == Keep::split_inputs ? n.all() / tp : n.own, c.hidden);
    blocks.resize(keeps_activations(keep) ? count : 0);
    for (BlockActivations<T>& block : blocks) {
      block = BlockActivations<T>::take(arena, c, tp, n);
      if (keep == Keep::all) block = AttentionActivations<T>::take(arena, c, tp, n);
    }
  }
};

/// What one micro-batch keeps from its input gradients to its weight gradients, where these come later (zero bubble).
template <class T>
struct DeferredGradients {
  std::vector<BlockGradients<T>> gradients;
  std::vector<BlockActivations<T>> refilled;  // what was computed again, where it was not kept

  void take(Arena& arena, const ModelConfig& c, int tp, const TokenCount& n, Keep keep, const Stage& stage) {
    const std::size_t count = static_cast<std::size_t>(stage.last - stage.first);
    gradients.resize(count);
    for (BlockGradients<T>& g : gradients) g = BlockGradients<T>::take(arena, c, tp, n);
    refilled.resize(keep == Keep::all ? 0 : count);
    for (BlockActivations<T>& block : refilled) {
      if (!keeps_activations(keep)) block = BlockActivations<T>::take(arena, c, tp, n);
      block = AttentionActivations<T>::take(arena, c, tp, n);
    }
  }
};

/// What a pass over a stage needs and nobody keeps.
template <class T>
struct StageSpace {
  BlockScratch<T> scratch;
  View<T, 2> x[2];      // (own, C) inputs of blocks in turn, where they are not kept as they are
  View<T, 2> output;    // (N, C) of the final norm
  View<accumulate_t<T>, 1> mean, rstd;  // (own) of the final norm
  BlockActivations<T> refilled;
  BlockGradients<T> gradients;
  View<T, 2> dx[2];     // (own, C)

  void take(Arena& arena, const ModelConfig& c, int tp, const TokenCount& n, Keep keep) {
    scratch = BlockScratch<T>::take(arena, c, tp, n);
    if (keep == Keep::nothing || keep == Keep::split_inputs)
      for (View<T, 2>& view : x) view = arena.take<T>(n.own, c.hidden);
    output = arena.take<T>(n.all(), c.hidden);
    mean = arena.take<accumulate_t<T>>(n.own);
    rstd = arena.take<accumulate_t<T>>(n.own);
    if (!keeps_activations(keep)) refilled = BlockActivations<T>::take(arena, c, tp, n);
    if (keep != Keep::all) refilled = AttentionActivations<T>::take(arena, c, tp, n);
    if (keep == Keep::nothing) return;
    gradients = BlockGradients<T>::take(arena, c, tp, n);
    for (View<T, 2>& view : dx) view = arena.take<T>(n.own, c.hidden);
  }
};

/// How many micro-batches are under way on a rank at once, over all its chunks, and how many wait for their weight gradients.
struct InFlight {
  int activations = 1, deferred = 0;
};

/// The memory of a rank's passes, shared by its chunks of layers: space, and slots for micro-batches under way. Made for the
/// largest micro-batch and chunk, and cut for each.
template <Model M, class T, int Tp, Device D>
class StageMemory {
 public:
  /// `largest`: the chunk with the most blocks; with a head if any has one.
  StageMemory(D& device, Keep keep, const Stage& largest, const TokenCount& tokens, InFlight in_flight = {}) : keep_(keep) {
    Arena measure;
    space_.take(measure, M::config, Tp, tokens, keep);
    memory_ = Buffer<std::byte, D>(device, static_cast<std::int64_t>(measure.used()), "activations");
    for (int i = 0; i < in_flight.activations; ++i) kept_.emplace_back(device, M::config, keep, largest, tokens);
    for (int i = 0; i < in_flight.deferred; ++i) deferred_.emplace_back(device, M::config, keep, largest, tokens);
  }

  Keep keep() const { return keep_; }
  InFlight in_flight() const { return {static_cast<int>(kept_.size()), static_cast<int>(deferred_.size())}; }

  /// The space, cut for micro-batches like n; the same for the same n.
  const StageSpace<T>& space(const TokenCount& n) {
    Arena arena(memory_.data(), memory_.bytes());
    space_.take(arena, M::config, Tp, n, keep_);
    return space_;
  }
  const KeptActivations<T>& kept(int slot) const { return kept_.at(static_cast<std::size_t>(slot)).kept; }
  const DeferredGradients<T>& deferred(int slot) const { return deferred_.at(static_cast<std::size_t>(slot)).kept; }
  void cut_kept(int slot, const Stage& stage, const TokenCount& n) { kept_.at(static_cast<std::size_t>(slot)).cut(M::config, keep_, stage, n); }
  void cut_deferred(int slot, const Stage& stage, const TokenCount& n) { deferred_.at(static_cast<std::size_t>(slot)).cut(M::config, keep_, stage, n); }

 private:
  /// Memory for one micro-batch of a stage.
  template <class Kept>
  struct Slot {
    Slot(D& device, const ModelConfig& c, Keep keep, const Stage& stage, const TokenCount& largest) {
      Arena measure;
      kept.take(measure, c, Tp, largest, keep, stage);
      memory = Buffer<std::byte, D>(device, static_cast<std::int64_t>(measure.used()), "activations");
    }
    void cut(const ModelConfig& c, Keep keep, const Stage& stage, const TokenCount& n) {
      Arena arena(memory.data(), memory.bytes());
      kept.take(arena, c, Tp, n, keep, stage);
    }
    Buffer<std::byte, D> memory;
    Kept kept;
  };

  Keep keep_;
  Buffer<std::byte, D> memory_;
  StageSpace<T> space_;
  std::vector<Slot<KeptActivations<T>>> kept_;
  std::vector<Slot<DeferredGradients<T>>> deferred_;
};

}  // namespace golem
