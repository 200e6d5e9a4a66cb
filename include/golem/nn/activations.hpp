// What a block keeps from its forward pass for its backward pass, and from the input gradients for the weight gradients.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/config/model.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/number.hpp"
#include "golem/core/tensor.hpp"

namespace golem {

/// How many tokens the activations of a micro-batch are for: all, and those that one tensor rank has between its linears.
struct TokenCount {
  int rows = 0, length = 0;  // B, T
  std::int64_t own = 0;      // N, or N/tp with sequence parallelism
  std::int64_t all() const { return std::int64_t{rows} * length; }
};

/// What attention makes: kept, or computed again from the input norm's output.
template <class T>
struct AttentionActivations {
  View<T, 2> qkv;                   // (N, (C + 2GD)/tp) rotated
  View<T, 2> attended;              // (N, C/tp)
  View<accumulate_t<T>, 3> lse;     // (B, H/tp, T)

  static AttentionActivations take(Arena& arena, const ModelConfig& c, int tp, const TokenCount& n) {
    AttentionActivations s;
    s.qkv = arena.take<T>(n.all(), c.qkv_rows() / tp);
    s.attended = arena.take<T>(n.all(), c.hidden / tp);
    s.lse = arena.take<accumulate_t<T>>(n.rows, c.heads / tp, n.length);
    return s;
  }
};

/// Activations of one block; config/plan_training.hpp counts the same. "own": see TensorParallel.
template <class T>
struct BlockActivations : AttentionActivations<T> {
  using A = accumulate_t<T>;
  View<T, 2> x;          // (own, C) the block's input, un-normalised (spec 1.2)
  View<T, 2> a;          // (own, C) input norm
  View<T, 2> sum;        // (own, C) residual + attention branch
  View<T, 2> m;          // (own, C) norm of the sum
  View<T, 2> up;         // (N, 2F/tp)
  View<T, 2> gated;      // (N, F/tp)
  View<A, 1> mean_a, rstd_a, mean_m, rstd_m;  // (own)

  /// All but x and what attention makes, which may live elsewhere.
  static BlockActivations take(Arena& arena, const ModelConfig& c, int tp, const TokenCount& n) {
    BlockActivations s;
    for (View<T, 2>* view : {&s.a, &s.sum, &s.m}) *view = arena.take<T>(n.own, c.hidden);
    s.up = arena.take<T>(n.all(), c.ffn_rows() / tp);
    s.gated = arena.take<T>(n.all(), c.ffn / tp);
    for (View<A, 1>* statistic : {&s.mean_a, &s.rstd_a, &s.mean_m, &s.rstd_m}) *statistic = arena.take<A>(n.own);
    return s;
  }
  BlockActivations& operator=(const AttentionActivations<T>& attention) {
    AttentionActivations<T>::operator=(attention);
    return *this;
  }
};

/// Gradients at the outputs of a block's four linears: made by backward_input, read by backward_weight.
template <class T>
struct BlockGradients {
  View<T, 2> down;   // (N, C)
  View<T, 2> up;     // (N, 2F/tp)
  View<T, 2> dense;  // (N, C)
  View<T, 2> qkv;    // (N, (C + 2GD)/tp)

  static BlockGradients take(Arena& arena, const ModelConfig& c, int tp, const TokenCount& n) {
    BlockGradients g;
    g.down = arena.take<T>(n.all(), c.hidden);
    g.up = arena.take<T>(n.all(), c.ffn_rows() / tp);
    g.dense = arena.take<T>(n.all(), c.hidden);
    g.qkv = arena.take<T>(n.all(), c.qkv_rows() / tp);
    return g;
  }
};

/// Space for what no pass keeps: a branch's output, the wide gradient inside the feed-forward and inside attention.
template <class T>
struct BlockScratch {
  View<T, 2> branch;    // (N, C)
  View<T, 2> wide;      // (N, max(F, C)/tp)
  View<T, 2> upstream;  // (own, C) a gradient that is needed before and after dropout, or cut and whole
  View<T, 2> gathered;  // (N, C) with sequence parallelism: a linear's input, put together

  static BlockScratch take(Arena& arena, const ModelConfig& c, int tp, const TokenCount& n) {
    BlockScratch scratch;
    scratch.branch = arena.take<T>(n.all(), c.hidden);
    scratch.wide = arena.take<T>(n.all(), larger(c.ffn, c.hidden) / tp);
    if (c.dropout > 0 || n.own != n.all()) scratch.upstream = arena.take<T>(n.own, c.hidden);
    if (n.own != n.all()) scratch.gathered = arena.take<T>(n.all(), c.hidden);
    return scratch;
  }
};

}  // namespace golem
