// What a block keeps from its forward pass for its backward pass, and from the input gradients for the weight gradients.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/config/model.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/number.hpp"
#include "golem/core/tensor.hpp"

namespace golem {

/// Activations of one block for B x T tokens; config/plan.hpp counts the same.
template <class T>
struct BlockActivations {
  using A = accumulate_t<T>;
  View<T, 2> x;          // (N, C) the block's input, un-normalised (spec 1.2)
  View<T, 2> a;          // (N, C) input norm
  View<T, 2> qkv;        // (N, 3C/tp) rotated
  View<T, 2> attended;   // (N, C/tp)
  View<T, 2> sum;        // (N, C) residual + attention branch
  View<T, 2> m;          // (N, C) norm of the sum
  View<T, 2> up;         // (N, 2F/tp)
  View<T, 2> gated;      // (N, F/tp)
  View<A, 1> mean_a, rstd_a, mean_m, rstd_m;  // (N)
  View<A, 3> lse;        // (B, H/tp, T)

  /// All but x, which may live elsewhere.
  static BlockActivations take(Arena& arena, const ModelConfig& c, int tp, int rows, int length) {
    const std::int64_t n = std::int64_t{rows} * length;
    BlockActivations s;
    s.a = arena.take<T>(n, c.hidden);
    s.qkv = arena.take<T>(n, 3 * c.hidden / tp);
    s.attended = arena.take<T>(n, c.hidden / tp);
    s.sum = arena.take<T>(n, c.hidden);
    s.m = arena.take<T>(n, c.hidden);
    s.up = arena.take<T>(n, c.ffn_rows() / tp);
    s.gated = arena.take<T>(n, c.ffn / tp);
    for (View<A, 1>* statistic : {&s.mean_a, &s.rstd_a, &s.mean_m, &s.rstd_m}) *statistic = arena.take<A>(n);
    s.lse = arena.take<A>(rows, c.heads / tp, length);
    return s;
  }
};

/// Gradients at the outputs of a block's four linears: made by backward_input, read by backward_weight.
template <class T>
struct BlockGradients {
  View<T, 2> down;   // (N, C)
  View<T, 2> up;     // (N, 2F/tp)
  View<T, 2> dense;  // (N, C)
  View<T, 2> qkv;    // (N, 3C/tp)

  static BlockGradients take(Arena& arena, const ModelConfig& c, int tp, int rows, int length) {
    const std::int64_t n = std::int64_t{rows} * length;
    BlockGradients g;
    g.down = arena.take<T>(n, c.hidden);
    g.up = arena.take<T>(n, c.ffn_rows() / tp);
    g.dense = arena.take<T>(n, c.hidden);
    g.qkv = arena.take<T>(n, 3 * c.hidden / tp);
    return g;
  }
};

/// Space for what no pass keeps: a branch's output, the wide gradient inside the feed-forward and inside attention.
template <class T>
struct BlockScratch {
  View<T, 2> branch;    // (N, C)
  View<T, 2> wide;      // (N, max(F, C)/tp)
  View<T, 2> upstream;  // (N, C) where dropout needs a gradient twice

  static BlockScratch take(Arena& arena, const ModelConfig& c, int tp, int rows, int length) {
    const std::int64_t n = std::int64_t{rows} * length;
    BlockScratch scratch;
    scratch.branch = arena.take<T>(n, c.hidden);
    scratch.wide = arena.take<T>(n, larger(c.ffn, c.hidden) / tp);
    if (c.dropout > 0) scratch.upstream = arena.take<T>(n, c.hidden);
    return scratch;
  }
};

}  // namespace golem
