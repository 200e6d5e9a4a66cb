// The blocks of a stage, with the embedding before and the final norm behind them where they are its own: forward, and backward in reverse.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "golem/config/precision.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/device.hpp"
#include "golem/core/function_ref.hpp"
#include "golem/nn/block.hpp"
#include "golem/nn/stage_memory.hpp"
#include "golem/nn/weights.hpp"

namespace golem {

/// Told when the weight gradients of a block (layer), of the final norm (layer = all layers) or of the embedding (-1) have
/// got all that this micro-batch adds.
using GradientsDone = function_ref<void(int layer)>;

/// What a forward pass shows of block `layer` as soon as it is computed; views of the device that the next block overwrites.
template <class T>
struct LayerOutput {
  int layer = 0;
  View<const T, 2> hidden;  // (own, C): the block's output, before the next norm
  View<const T, 2> qkv;     // (N, (C + 2GD)/tp): of each key head [q of those that share it, k, v], q and k rotated
};
template <class T>
using LayerObserver = function_ref<void(const LayerOutput<T>&)>;

/// Shown the gradient (own, C) of the input of block `layer` as soon as it is computed.
template <class T>
using GradientObserver = function_ref<void(int layer, View<const T, 2> gradient)>;

/// The passes of one stage. Each call names the slot of `memory` that its micro-batch has. Tensors between blocks are of own
/// tokens: see TensorParallel.
template <Model M, Precision P, int Tp, Device D>
class Transformer {
 public:
  using T = typename P::compute;
  using A = accumulate_t<T>;
  using Ranks = TensorParallel<Tp>;
  using Weights = StageWeights<P>;
  using Gradients = StageTensors<View<A, 2>, A>;
  using Memory = StageMemory<M, T, Tp, D>;

  /// What is kept: a block's input is cut once only, be it here or by sequence parallelism.
  static Keep keep(const Ranks& tp, Recompute recompute) {
    const Keep keep = keep_of(recompute);
    return keep == Keep::split_inputs && (Tp == 1 || tp.sequence_parallel()) ? Keep::inputs : keep;
  }
  /// Tokens of a micro-batch on one rank.
  static TokenCount tokens(const Ranks& tp, int rows, int length) { return {rows, length, tp.own_tokens(std::int64_t{rows} * length)}; }

  /// `device` and `memory` must outlive it.
  Transformer(D& device, Memory& memory, const Stage& stage) : device_(&device), memory_(&memory), stage_(stage), keep_(memory.keep()) {}

  const Stage& stage() const { return stage_; }

  /// Takes a slot for a micro-batch; returns where the stage before puts its output (own, C), unless this one embeds.
  View<T, 2> begin(const Ranks& tp, int slot, int rows, int length) {
    const TokenCount n = tokens(tp, rows, length);
    tp.check(n.all());
    require(keep_ != Keep::split_inputs || n.all() % Tp == 0, "a micro-batch of ", n.all(), " tokens cannot be cut among ", Tp,
            " tensor ranks: Recompute::block_split needs rows x length to be a multiple of tp");
    memory_->cut_kept(slot, stage_, n);
    return input(slot, stage_.first, memory_->space(n));
  }

  /// The last block's output (own, C), for the micro-batch that `begin` took the slot for: in `y`, or kept here before a head.
  View<T, 2> forward(Ranks& tp, const Weights& w, const Rows<A>& rows, int slot, View<T, 2> y, LayerObserver<T> observe = {}) {
    const StageSpace<T>& space = cut(tp, rows);
    if (stage_.embedding) embed_tokens(tp, space, input(slot, stage_.first, space), w, rows);
    for (int layer = stage_.first; layer < stage_.last; ++layer) {
      const View<T, 2> x = input(slot, layer, space);
      keep_input(tp, slot, layer, x);
      BlockActivations<T> s = saved(slot, layer, space, nullptr);
      s.x = x;
      const bool inside = layer + 1 < stage_.last || stage_.head;
      const View<T, 2> output = inside ? input(slot, layer + 1, space) : y;
      block(layer).forward(*device_, tp, output, w.blocks[index(layer)], s, space.scratch, rows);
      if (observe) observe({layer, output, s.qkv});
    }
    if (stage_.head) y = input(slot, stage_.last, space);
    else if (stage_.first == stage_.last) device_->copy(y.data, input(slot, stage_.first, space).data, static_cast<std::size_t>(y.size()) * sizeof(T));
    if (stage_.head) keep_input(tp, slot, stage_.last, y);
    return y;
  }

  /// The final norm of the last forward's output, for all tokens (N, C); valid until the next call.
  View<T, 2> normalize_output(Ranks& tp, const Weights& w, const Rows<A>& rows, int slot) {
    const StageSpace<T>& space = cut(tp, rows);
    const View<T, 2> own = tp.own(space.output);
    normalize(*device_, own, kept_input(tp, slot, stage_.last, space), w.final_norm.gamma, w.final_norm.beta, M::config.norm_eps, space.mean, space.rstd);
    tp.gather_in_place(space.output);
    return space.output;
  }

  /// Gradient of the last block's output (own, C) from that of normalize_output's result (N, C), which came just before.
  View<T, 2> normalize_output_backward(Ranks& tp, const Weights& w, const Gradients& dw, const Rows<A>& rows, int slot, View<T, 2> d_output, GradientsDone done) {
    const StageSpace<T>& space = cut(tp, rows);
    const View<T, 2> x = kept_input(tp, slot, stage_.last, space);
    normalize_backward(*device_, space.dx[0], dw.final_norm.gamma, dw.final_norm.beta, tp.own(d_output), x, w.final_norm.gamma, space.mean, space.rstd, ResidualGradient<T>{});
    if (done) done(M::config.layers);
    return space.dx[0];
  }

  /// How a backward pass ends.
  struct Backward {
    double embedding_shrink = 1;  // multiplies what flows into the embedding (spec 4.3)
    View<T, 2> dx{};              // (own, C) where the input's gradient goes, unless this stage embeds
    int deferred = -1;            // the slot where the weight gradients wait for backward_weight; -1: they are computed at once
    GradientsDone done{};
    GradientsDone partly{};       // told where a block has its norms' gradients, and the others are to come
    GradientObserver<T> observe{};
  };

  /// Adds the micro-batch's gradients to `dw`; dy (own, C) is the gradient of the last block's output.
  void backward(Ranks& tp, const Weights& w, const Gradients& dw, const Rows<A>& rows, int slot, View<T, 2> dy, const Backward& options) {
    require(keep_ != Keep::nothing, "a backward pass was asked of a Transformer that keeps no activations: make it with another Keep");
    const StageSpace<T>& space = cut(tp, rows);
    if (options.deferred >= 0) memory_->cut_deferred(options.deferred, stage_, tokens(tp, rows.rows, rows.length));
    const DeferredGradients<T>* waits = options.deferred >= 0 ? &memory_->deferred(options.deferred) : nullptr;
    for (int layer = stage_.last - 1; layer >= stage_.first; --layer) {
      const auto& weights = w.blocks[index(layer)];
      BlockActivations<T> s = saved(slot, layer, space, waits);
      s.x = kept_input(tp, slot, layer, space);
      if (!keeps_activations(keep_)) block(layer).refill(*device_, tp, weights, s, space.scratch, rows);
      else if (keep_ == Keep::all_but_attention) block(layer).refill_attention(*device_, tp, weights, s, space.scratch, rows);

      BlockGradients<T> g = waits ? waits->gradients[index(layer)] : space.gradients;
      if (!waits && !tp.sequence_parallel() && rows.dropout == 0) g.down = {};  // dy serves
      const View<T, 2> dx = layer == stage_.first && !stage_.embedding ? options.dx : space.dx[dy.data == space.dx[0].data ? 1 : 0];
      block(layer).backward_input(*device_, tp, dx, dy, weights, dw.blocks[index(layer)], s, g, space.scratch, rows);
      if (options.observe) options.observe(layer, dx);
      if (!waits) {
        block(layer).backward_weight(*device_, tp, dw.blocks[index(layer)], s, g, space.scratch);
        if (options.done) options.done(layer);
      } else if (options.partly) {
        options.partly(layer);
      }
      dy = dx;
    }
    if (stage_.embedding) {
      embed_tokens_backward(tp, space, dw, rows, dy, options.embedding_shrink);
      if (options.done) options.done(-1);
    } else if (stage_.first == stage_.last) {
      device_->copy(options.dx.data, dy.data, static_cast<std::size_t>(dy.size()) * sizeof(T));
    }
  }

  /// Adds the weight gradients that wait in `deferred` for the micro-batch in `slot`.
  void backward_weight(Ranks& tp, const Gradients& dw, const Rows<A>& rows, int slot, int deferred, GradientsDone done) {
    const StageSpace<T>& space = cut(tp, rows);
    const DeferredGradients<T>& waits = memory_->deferred(deferred);
    for (int layer = stage_.last - 1; layer >= stage_.first; --layer) {
      block(layer).backward_weight(*device_, tp, dw.blocks[index(layer)], saved(slot, layer, space, &waits), waits.gradients[index(layer)], space.scratch);
      if (done) done(layer);
    }
  }

  /// Forward for new tokens of cached sequences; keys, values: one (slots, G/tp, capacity, D) a block.
  View<T, 2> infer(Ranks& tp, const Weights& w, const Rows<A>& rows, const std::vector<View<T, 4>>& keys, const std::vector<View<T, 4>>& values,
                   View<const CachedSequence, 1> sequences, LayerObserver<T> observe = {}) {
    const StageSpace<T>& space = cut(tp, rows);
    const View<T, 2> first = input(0, stage_.first, space);
    embed_tokens(tp, space, first, w, rows);
    const auto norm_before = [&](int layer) -> const auto& { return layer < stage_.last ? w.blocks[index(layer)].input_norm : w.final_norm; };
    const auto normalized = [&](int layer) { return layer < stage_.last ? space.refilled.a : space.output; };
    normalize(*device_, normalized(stage_.first), first, norm_before(stage_.first).gamma, norm_before(stage_.first).beta, M::config.norm_eps, View<A, 1>{}, View<A, 1>{});
    for (int layer = stage_.first; layer < stage_.last; ++layer) {
      BlockActivations<T> s = space.refilled;
      s.x = input(0, layer, space);
      const View<T, 2> y = input(0, layer + 1, space);
      block(layer).infer(*device_, tp, y, normalized(layer + 1), w.blocks[index(layer)], norm_before(layer + 1), s, space.scratch, rows, keys[index(layer)], values[index(layer)], sequences);
      if (observe) observe({layer, y, s.qkv});
    }
    return space.output;
  }

 private:
  static Block<M, T, Tp> block(int layer) { return Block<M, T, Tp>(layer, rounding_of<P>()); }
  std::size_t index(int layer) const { return static_cast<std::size_t>(layer - stage_.first); }
  const StageSpace<T>& cut(const Ranks& tp, const Rows<A>& rows) { return memory_->space(tokens(tp, rows.rows, rows.length)); }

  /// Where block `layer` reads its input in the forward pass: where it is kept, or one of two that take turns.
  View<T, 2> input(int slot, int layer, const StageSpace<T>& space) {
    if (keep_ == Keep::nothing || keep_ == Keep::split_inputs) return space.x[index(layer) % 2];
    return memory_->kept(slot).inputs[index(layer)];
  }
  /// Keeps a part of the input of `layer`, where no more than that is kept.
  void keep_input(const Ranks& tp, int slot, int layer, View<T, 2> x) {
    if (keep_ != Keep::split_inputs) return;
    const View<T, 2> part = tp.part(x), place = memory_->kept(slot).inputs[index(layer)];
    device_->copy(place.data, part.data, static_cast<std::size_t>(part.size()) * sizeof(T));
  }
  /// The input of `layer` once more.
  View<T, 2> kept_input(Ranks& tp, int slot, int layer, const StageSpace<T>& space) {
    if (keep_ != Keep::split_inputs) return input(slot, layer, space);
    tp.join(space.x[0], memory_->kept(slot).inputs[index(layer)]);
    return space.x[0];
  }

  /// Where the activations of `layer` are; what is not kept goes to the slot that waits for it, or to the space of all.
  BlockActivations<T> saved(int slot, int layer, const StageSpace<T>& space, const DeferredGradients<T>* waits) {
    if (!keeps_activations(keep_)) return waits ? waits->refilled[index(layer)] : space.refilled;
    BlockActivations<T> s = memory_->kept(slot).blocks[index(layer)];
    if (keep_ == Keep::all_but_attention) s = static_cast<const AttentionActivations<T>&>(waits ? waits->refilled[index(layer)] : space.refilled);
    return s;
  }

  /// Row of the vocabulary that is row 0 of this rank's shard.
  static std::int64_t first_row(const Ranks& tp) { return tp.rank() * (M::config.vocab / Tp); }

  void embed_tokens(Ranks& tp, const StageSpace<T>& space, View<T, 2> x, const Weights& w, const Rows<A>& rows) {
    const View<T, 2> all = tp.sequence_parallel() ? space.scratch.branch : x;
    embed(*device_, all, w.embedding, rows.tokens, first_row(tp));
    block(-1).drop_rows(*device_, tp, x, tp.sum(all), Block<M, T, Tp>::Site::feed_forward, rows);
  }
  void embed_tokens_backward(Ranks& tp, const StageSpace<T>& space, const Gradients& dw, const Rows<A>& rows, View<T, 2> dx, double shrink) {
    const View<T, 2> all = tp.sequence_parallel() ? space.scratch.branch : dx;
    block(-1).drop_rows(*device_, tp, tp.own(all), dx, Block<M, T, Tp>::Site::feed_forward, rows);
    tp.gather_in_place(all);
    embed_backward(*device_, dw.embedding, all, rows.tokens, first_row(tp), shrink);
  }

  D* device_;
  Memory* memory_;
  Stage stage_;
  Keep keep_;
};

}  // namespace golem
