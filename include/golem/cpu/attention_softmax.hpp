// The softmax of attention and its gradient, over tiles of scores of 64 keys by 64 queries, and which keys a query sees.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "golem/cpu/simd_exp.hpp"

namespace golem::cpu {

/// A tile of scores (keys, queries), and which of its keys the queries see: lane i those with first[i] <= key + row < last[i], and
/// those of its context, where there are any. Where `first` is null, all.
template <class A>
struct ScoreTile {
  A* scores;
  std::int64_t keys, queries;  // queries: the row step as well
  std::int64_t key;            // of the first row
  const lane_integer_t<A>*first, *last;
  A scale;
  const lane_integer_t<A>*context_first = nullptr, *context_last = nullptr;

  template <class V>
  [[gnu::always_inline]] inline void hide(V& score, std::int64_t row, std::int64_t column, A hidden) const {
    V otherwise = V{} + hidden;
    if (context_first) choose(otherwise, score, otherwise, context_first + column, context_last + column, row);
    choose(score, score, otherwise, first + column, last + column, row);
  }

  /// to = inside where the key of `row` is in [begin, end), else outside.
  template <class V>
  [[gnu::always_inline]] inline void choose(V& to, const V& inside, const V& outside, const lane_integer_t<A>* begins, const lane_integer_t<A>* ends, std::int64_t row) const {
    using Unsigned = Lanes<std::make_unsigned_t<lane_integer_t<A>>, sizeof(V)>;
    IntegerLanes<V> begin, end;
    load(begin, begins);
    load(end, ends);
    const auto at = static_cast<lane_integer_t<A>>(key + row);
    to = (Unsigned)(at - begin) < (Unsigned)(end - begin) ? inside : outside;  // one comparison: g++ 12 makes scalar code of two
  }
};

/// One step of the online softmax: scores become exp(score * scale - maximum), the running maximum and sum of each query move
/// on, and `rescale` is what earlier sums and outputs must be multiplied by.
struct SoftmaxTile {
  template <int width, class A>
  [[gnu::always_inline]] static inline void run(ScoreTile<A> tile, A* maximum, A* sum, A* rescale) {
    using V = Lanes<A, width>;
    constexpr int n = lane_count<V>, vectors = width == 64 ? 4 : 2;
    for (std::int64_t column = 0; column < tile.queries; column += vectors * n) {
      V top[vectors], total[vectors];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) top[v] = V{} - std::numeric_limits<A>::infinity();
      for (std::int64_t row = 0; row < tile.keys; ++row) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
          A* const at = tile.scores + row * tile.queries + column + v * n;
          V score;
          load(score, at);
          if (tile.first) {
            tile.hide(score, row, column + v * n, -std::numeric_limits<A>::infinity());
            store(at, score);
          }
          top[v] = score > top[v] ? score : top[v];
        }
      }
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        V before, factor, earlier;
        load(before, maximum + column + v * n);
        load(earlier, sum + column + v * n);
        top[v] *= tile.scale;
        top[v] = top[v] > before ? top[v] : before;
        factor = before - top[v];
        exponentiate(factor);
        total[v] = earlier * factor;
        store(maximum + column + v * n, top[v]);
        store(rescale + column + v * n, factor);
      }
      for (std::int64_t row = 0; row < tile.keys; ++row) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
          A* const at = tile.scores + row * tile.queries + column + v * n;
          V p;
          load(p, at);
          p = p * tile.scale - top[v];
          exponentiate(p);
          total[v] += p;
          store(at, p);
        }
      }
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) store(sum + column + v * n, total[v]);
    }
  }
};

/// Scores become probabilities p = exp(score * scale - log_sum), and `gradient`, which is that of the probabilities, becomes
/// that of the scores, p * (gradient - delta). Where `kept` is given (dropout: 0 or 1 / (1 - rate)), it multiplies the
/// gradient before and the probabilities after.
struct SoftmaxGradientTile {
  template <int width, class A>
  [[gnu::always_inline]] static inline void run(ScoreTile<A> tile, A* gradient, const A* log_sum, const A* delta, const A* kept) {
    using V = Lanes<A, width>;
    constexpr int n = lane_count<V>;
    for (std::int64_t column = 0; column < tile.queries; column += n) {
      V shift, mean;
      load(shift, log_sum + column);
      load(mean, delta + column);
      for (std::int64_t row = 0; row < tile.keys; ++row) {
        const std::int64_t at = row * tile.queries + column;
        V p, dp;
        load(p, tile.scores + at);
        load(dp, gradient + at);
        p = p * tile.scale - shift;
        exponentiate(p);
        if (tile.first) tile.hide(p, row, column, 0);
        if (kept) {
          V keep;
          load(keep, kept + at);
          store(gradient + at, p * (dp * keep - mean));
          store(tile.scores + at, p * keep);
        } else {
          store(gradient + at, p * (dp - mean));
          store(tile.scores + at, p);
        }
      }
    }
  }
};

}  // namespace golem::cpu
