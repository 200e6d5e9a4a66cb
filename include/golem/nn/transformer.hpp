// The blocks of a stage with the embedding before and the final norm behind them: forward, and backward in reverse.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "golem/comm/communicator.hpp"
#include "golem/config/precision.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/device.hpp"
#include "golem/nn/block.hpp"
#include "golem/nn/weights.hpp"

namespace golem {

/// What a forward pass keeps.
enum class Keep : std::uint8_t {
  nothing,  // no backward pass follows
  inputs,   // each block's input; the rest is computed again
  all,
};

/// Owns the activations of one batch of up to `rows` x `length` tokens, not the weights.
template <Model M, Precision P, int Tp, Device D>
class Transformer {
 public:
  using T = typename P::compute;
  using A = accumulate_t<T>;
  using Weights = StageWeights<P>;
  using Gradients = StageTensors<View<A, 2>, A>;

  Transformer(D& device, const Stage& stage, Keep keep, int rows, int length) : device_(&device), stage_(stage), keep_(keep) {
    Arena measure;
    lay_out(measure, rows, length);
    memory_ = Buffer<std::byte, D>(device, static_cast<std::int64_t>(measure.used()), "activations");
  }

  /// The final norm's output (N, C), for the tokens of `rows`; valid until the next call.
  template <Communicator Ranks>
  View<T, 2> forward(Ranks& tp, const Weights& w, const Rows<A>& rows) {
    Arena arena(memory_.data(), memory_.bytes());
    lay_out(arena, rows.rows, rows.length);
    embed_tokens(tp, w, rows);
    for (int layer = stage_.first; layer < stage_.last; ++layer)
      block(layer).forward(*device_, tp, input(layer + 1), w.blocks[index(layer)], activations(layer), scratch_, rows);
    normalize(*device_, output_, input(stage_.last), w.final_norm.gamma, w.final_norm.beta, M::config.norm_eps, mean_, rstd_);
    return output_;
  }

  /// Adds the gradients of the batch of the last forward to `dw`; `d_output` (N, C) is the gradient of its result.
  /// `embedding_shrink` multiplies what flows into the embedding (spec 4.3).
  template <Communicator Ranks>
  void backward(Ranks& tp, const Weights& w, const Gradients& dw, const Rows<A>& rows, View<const T, 2> d_output, double embedding_shrink) {
    require(keep_ != Keep::nothing, "a backward pass was asked of a Transformer that keeps no activations: make it with Keep::all or Keep::inputs");
    View<T, 2> dy = gradients_.down, dx = d_input_;
    normalize_backward(*device_, dy, dw.final_norm.gamma, dw.final_norm.beta, d_output, input(stage_.last), w.final_norm.gamma, mean_, rstd_, ResidualGradient<T>{});
    for (int layer = stage_.last - 1; layer >= stage_.first; --layer) {
      const auto& weights = w.blocks[index(layer)];
      const BlockActivations<T> saved = activations(layer);
      if (keep_ == Keep::inputs) block(layer).refill(*device_, tp, weights, saved, scratch_, rows);
      BlockGradients<T> g = gradients_;
      g.down = dy;
      block(layer).backward_input(*device_, tp, dx, weights, dw.blocks[index(layer)], saved, g, scratch_, rows);
      block(layer).backward_weight(*device_, dw.blocks[index(layer)], saved, g);
      const View<T, 2> done = dy;
      dy = dx, dx = done;
    }
    drop_embedding(dy, rows);
    embed_backward(*device_, dw.embedding, dy, rows.tokens, first_token(tp), embedding_shrink);
  }

  /// Forward for new tokens of cached sequences; keys, values: one (slots, H/tp, capacity, D) a block.
  template <Communicator Ranks>
  View<T, 2> infer(Ranks& tp, const Weights& w, const Rows<A>& rows, const std::vector<View<T, 4>>& keys, const std::vector<View<T, 4>>& values,
                   View<const CachedSequence, 1> sequences) {
    Arena arena(memory_.data(), memory_.bytes());
    lay_out(arena, rows.rows, rows.length);
    embed_tokens(tp, w, rows);
    for (int layer = stage_.first; layer < stage_.last; ++layer)
      block(layer).infer(*device_, tp, input(layer + 1), w.blocks[index(layer)], activations(layer), scratch_, rows, keys[index(layer)], values[index(layer)], sequences);
    normalize(*device_, output_, input(stage_.last), w.final_norm.gamma, w.final_norm.beta, M::config.norm_eps, View<A, 1>{}, View<A, 1>{});
    return output_;
  }

 private:
  static Block<M, T, Tp> block(int layer) { return Block<M, T, Tp>(layer); }
  std::size_t index(int layer) const { return static_cast<std::size_t>(layer - stage_.first); }

  /// Row of the vocabulary that is row 0 of this rank's shard.
  template <Communicator Ranks>
  static std::int64_t first_token(Ranks& tp) {
    return tp.rank() * (M::config.vocab / Tp);
  }

  /// Input of `layer`, which is the output of the one before; without a backward pass two take turns.
  View<T, 2> input(int layer) const { return inputs_[keep_ == Keep::nothing ? index(layer) % 2 : index(layer)]; }

  BlockActivations<T> activations(int layer) const {
    BlockActivations<T> s = saved_[keep_ == Keep::all ? index(layer) : 0];
    s.x = input(layer);
    return s;
  }

  template <Communicator Ranks>
  void embed_tokens(Ranks& tp, const Weights& w, const Rows<A>& rows) {
    embed(*device_, input(stage_.first), w.embedding, rows.tokens, first_token(tp));
    if constexpr (Tp > 1) tp.all_reduce(input(stage_.first).flat(), Reduce::sum);
    drop_embedding(input(stage_.first), rows);
  }

  void drop_embedding(View<T, 2> x, const Rows<A>& rows) { block(-1).drop_rows(*device_, x, Block<M, T, Tp>::Site::feed_forward, rows); }

  /// Cuts the memory for a batch; the same cuts for the same shape.
  void lay_out(Arena& arena, int rows, int length) {
    const ModelConfig& c = M::config;
    const std::int64_t n = std::int64_t{rows} * length;
    const int blocks = stage_.last - stage_.first;
    inputs_.resize(static_cast<std::size_t>(keep_ == Keep::nothing ? 2 : blocks + 1));
    for (View<T, 2>& view : inputs_) view = arena.take<T>(n, c.hidden);
    saved_.resize(static_cast<std::size_t>(keep_ == Keep::all ? blocks : 1));
    for (BlockActivations<T>& s : saved_) s = BlockActivations<T>::take(arena, c, Tp, rows, length);
    scratch_ = BlockScratch<T>::take(arena, c, Tp, rows, length);
    output_ = arena.take<T>(n, c.hidden);
    mean_ = arena.take<A>(n);
    rstd_ = arena.take<A>(n);
    if (keep_ == Keep::nothing) return;
    gradients_ = BlockGradients<T>::take(arena, c, Tp, rows, length);
    d_input_ = arena.take<T>(n, c.hidden);
  }

  D* device_;
  Stage stage_;
  Keep keep_;
  Buffer<std::byte, D> memory_;
  std::vector<View<T, 2>> inputs_;
  std::vector<BlockActivations<T>> saved_;
  BlockScratch<T> scratch_;
  BlockGradients<T> gradients_;
  View<T, 2> output_, d_input_;
  View<A, 1> mean_, rstd_;
};

}  // namespace golem
