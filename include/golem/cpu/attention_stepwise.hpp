// Attention with the rounding points of GLM-130B's own code (spec 1.5): scores and probabilities rounded, hidden keys scored -10000.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "golem/cpu/attention_forward.hpp"

namespace golem::cpu {

/// Scores become probabilities, both rounded to T; between them all is in A. Keeps each query's maximum and sum.
template <class T>
struct SoftmaxStepwise {
  template <int width, class A>
  [[gnu::always_inline]] static inline void run(ScoreTile<A> tile, A* maximum, A* sum) {
    using V = Lanes<A, width>;
    for (std::int64_t column = 0; column < tile.queries; column += lane_count<V>) {
      V top = V{} - std::numeric_limits<A>::infinity(), total{};
      for (std::int64_t row = 0; row < tile.keys; ++row) {
        A* const at = tile.scores + row * tile.queries + column;
        V score;
        load(score, at);
        round_to<T>(score);
        score *= tile.scale;
        tile.hide(score, row, column, static_cast<A>(hidden_score));
        store(at, score);
        top = score > top ? score : top;
      }
      for (std::int64_t row = 0; row < tile.keys; ++row) {
        A* const at = tile.scores + row * tile.queries + column;
        V p;
        load(p, at);
        p -= top;
        exponentiate(p);
        store(at, p);
        total += p;
      }
      for (std::int64_t row = 0; row < tile.keys; ++row) {
        A* const at = tile.scores + row * tile.queries + column;
        V p;
        load(p, at);
        p /= total;
        round_to<T>(p);
        store(at, p);
      }
      store(maximum + column, top);
      store(sum + column, total);
    }
  }
};

/// What a block of up to 64 queries works on: probabilities are rounded once their sum is known, so that its scores are held
/// whole, (T keys, 64 queries).
template <class A>
struct StepwiseTiles {
  View<A, 2> rows, keys;        // (64, D)
  View<A, 2> queries, outputs;  // (D, queries)
  View<A, 2> scores;            // (T, queries)
  View<A, 1> maximum, sum;      // (queries)

  StepwiseTiles(Arena& arena, std::int64_t width, std::int64_t lanes, std::int64_t key_count)
      : rows(arena.take<A>(tile_queries, width)),
        keys(arena.take<A>(tile_keys, width)),
        queries(arena.take<A>(width, lanes)),
        outputs(arena.take<A>(width, lanes)),
        scores(arena.take<A>(round_up(key_count, MultiplyTile::block_rows), lanes)),
        maximum(arena.take<A>(lanes)),
        sum(arena.take<A>(lanes)) {}
};

/// As attend_group, in the original's steps: q' = q / (sqrt(D) c), s = q' kT, p = softmax(c s) in fp32, out = p v, each rounded to T.
template <class T>
void attend_stepwise(Device& device, const QueryGroup<T>& group, const AttentionOptions& options) {
  using A = accumulate_t<T>;
  const Isa isa = device.isa();
  const std::int64_t width = tile_width(group.dims);
  const A query_scale = 1 / static_cast<A>(options.layer_scale / options.scale);  // a GPU divides by a number so
  for (std::int64_t first = 0; first < group.count; first += tile_queries) {
    const std::int64_t count = smaller<std::int64_t>(tile_queries, group.count - first), lanes = round_up(count, 16);
    const auto tiles = tiles_in_scratch<StepwiseTiles<A>>(device, width, lanes, group.key_count);
    const auto& visible = group.visible[first / tile_queries];
    const auto for_each_tile = [&](const HeadRows<const T>& rows, const auto& body) {
      for (std::int64_t key = 0; key < group.key_count; key += tile_keys) {
        const std::int64_t keys = smaller<std::int64_t>(tile_keys, group.key_count - key), padded = round_up(keys, MultiplyTile::block_rows);
        run_on<LoadRows>(isa, RowsIn<T>{tiles.keys.data, width, rows[key], rows.step, keys, padded, group.dims});
        body(key, keys, padded);
      }
    };
    run_on<LoadRows>(isa, RowsIn<T>{tiles.rows.data, width, group.queries[first], group.queries.step, count, lanes, group.dims, query_scale});
    run_on<TransposeTile>(isa, tiles.queries.data, lanes, tiles.rows.data, width, lanes, width);
    for_each_tile(group.keys, [&](std::int64_t key, std::int64_t, std::int64_t padded) {  // S^T = K Q^T
      run_on<MultiplyTile>(isa, TileProduct<A>{{tiles.scores.row(key), lanes}, {tiles.keys.data, width}, {tiles.queries.data, lanes}, padded, lanes, group.dims});
    });
    run_on<SoftmaxStepwise<T>>(isa,
                               ScoreTile<A>{tiles.scores.data, group.key_count, lanes, 0, visible.first, visible.last, static_cast<A>(options.layer_scale),
                                            visible.contexts_first(), visible.contexts_last()},
                               tiles.maximum.data, tiles.sum.data);
    for_each_tile(group.values, [&](std::int64_t key, std::int64_t keys, std::int64_t) {  // O^T = V^T P^T
      run_on<MultiplyTile>(isa, TileProduct<A>{{tiles.outputs.data, lanes}, Strided<A>{tiles.keys.data, width}.transposed(), {tiles.scores.row(key), lanes}, width, lanes, keys,
                                               key == 0 ? Into::fresh : Into::sum});
    });
    run_on<TransposeTile>(isa, tiles.rows.data, width, tiles.outputs.data, lanes, width, lanes);
    run_on<StoreRows>(isa, RowsOut<T>{group.out[first], group.out.step, tiles.rows.data, width, count, group.dims});
    for (std::int64_t i = 0; group.log_sum && i < count; ++i) group.log_sum[first + i] = tiles.maximum(i) + std::log(tiles.sum(i));
  }
}

}  // namespace golem::cpu
