// The backward of attention for one head of one row: probabilities are made again from the saved log-sum-exp, tile by tile.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "golem/cpu/attention_forward.hpp"

namespace golem::cpu {

/// Where a head of row `row` finds its operands: T rows each.
template <class T>
struct HeadGradient {
  using A = accumulate_t<T>;
  HeadRows<T> dqueries, dkeys, dvalues;
  HeadRows<const T> dout, out, queries, keys, values;
  const A* log_sum = nullptr;  // (T)
  std::int64_t length = 0, dims = 0, row = 0;
  std::uint64_t first_element = 0;  // of probability (0, 0), for dropout
};

/// What a head works on: keys and values with their gradients whole, queries in blocks of 64, some of them both ways round
/// ("across": a query in each lane).
template <class A>
struct BackwardTiles {
  View<A, 2> keys, values, dkeys, dvalues;                  // (T, D)
  View<A, 2> queries, dout;                                 // (64, D)
  View<A, 2> queries_across, dout_across, dqueries_across;  // (D, 64)
  View<A, 2> scores, gradient, kept;                        // (64 keys, 64 queries)
  View<A, 1> log_sum, delta;                                // (64)

  BackwardTiles(Arena& arena, std::int64_t length, std::int64_t width)
      : keys(arena.take<A>(length + MultiplyTile::block_rows, width)),
        values(arena.take<A>(length + MultiplyTile::block_rows, width)),
        dkeys(arena.take<A>(length + MultiplyTile::block_rows, width)),
        dvalues(arena.take<A>(length + MultiplyTile::block_rows, width)),
        queries(arena.take<A>(tile_queries, width)),
        dout(arena.take<A>(tile_queries, width)),
        queries_across(arena.take<A>(width, tile_queries)),
        dout_across(arena.take<A>(width, tile_queries)),
        dqueries_across(arena.take<A>(width, tile_queries)),
        scores(arena.take<A>(tile_keys, tile_queries)),
        gradient(arena.take<A>(tile_keys, tile_queries)),
        kept(arena.take<A>(tile_keys, tile_queries)),
        log_sum(arena.take<A>(tile_queries)),
        delta(arena.take<A>(tile_queries)) {}
};

/// delta = sum over d of dout * out, for each row; 0 in the rows that hold no query.
struct RowDots {
  template <int bytes, class T>
  [[gnu::always_inline]] static inline void run(accumulate_t<T>* delta, const HeadRows<const T>& dout, const HeadRows<const T>& out,
                                                std::int64_t rows, std::int64_t dims) {
    using A = accumulate_t<T>;
    using V = Lanes<A, bytes>;
    constexpr int n = lane_count<V>;
    for (std::int64_t row = 0; row < tile_queries; ++row) {
      V sums{};
      A rest = 0;
      std::int64_t d = row < rows ? 0 : dims;
      for (; d + n <= dims; d += n) {
        V x, y;
        load(x, dout[row] + d);
        load(y, out[row] + d);
        sums += x * y;
      }
      for (; d < dims; ++d) rest += static_cast<A>(dout[row][d]) * static_cast<A>(out[row][d]);
      for (int i = 0; i < n; ++i) rest += sums[i];
      delta[row] = rest;
    }
  }
};

/// One tile of keys against the block of queries in `tiles`: five products, of which the first two give probabilities and
/// their gradients, and the others what flows from them into dV, dK and dQ.
template <class T>
void attend_tile_backward(Isa isa, const BackwardTiles<accumulate_t<T>>& tiles, const HeadGradient<T>& head,
                          const VisibleKeys<lane_integer_t<accumulate_t<T>>>& visible, std::int64_t query, std::int64_t queries, std::int64_t key,
                          std::int64_t keys, const AttentionOptions& options) {
  using A = accumulate_t<T>;
  constexpr std::int64_t across = tile_queries;
  const std::int64_t width = tiles.keys.extent(1), padded = round_up(keys, MultiplyTile::block_rows);
  A* const k = tiles.keys.row(key);
  run_on<MultiplyTile>(isa, TileProduct<A>{.c = tiles.scores.data,
                                           .c_row = across,
                                           .a = k,
                                           .a_row = width,
                                           .a_column = 1,
                                           .b = tiles.queries_across.data,
                                           .b_row = across,
                                           .rows = padded,
                                           .columns = across,
                                           .depth = head.dims});  // S^T = K Q^T
  run_on<MultiplyTile>(isa, TileProduct<A>{.c = tiles.gradient.data,
                                           .c_row = across,
                                           .a = tiles.values.row(key),
                                           .a_row = width,
                                           .a_column = 1,
                                           .b = tiles.dout_across.data,
                                           .b_row = across,
                                           .rows = padded,
                                           .columns = across,
                                           .depth = head.dims});  // dP^T = V dO^T
  const ProbabilityDropout<A> dropout(options);
  if (dropout) {
    const auto length = static_cast<std::uint64_t>(head.length);
    dropout.fill(tiles.kept.data, head.first_element + static_cast<std::uint64_t>(query) * length + static_cast<std::uint64_t>(key), length, padded,
                 tile_queries);
  }
  run_on<SoftmaxGradientTile>(isa,
                              ScoreTile<A>{tiles.scores.data, padded, across, key, visible.see_all(key, padded) ? nullptr : visible.first,
                                           visible.last, static_cast<A>(options.layer_scale)},
                              tiles.gradient.data, tiles.log_sum.data, tiles.delta.data, dropout ? tiles.kept.data : nullptr);
  run_on<MultiplyTile>(isa, TileProduct<A>{.c = tiles.dvalues.row(key),
                                           .c_row = width,
                                           .a = tiles.scores.data,
                                           .a_row = across,
                                           .a_column = 1,
                                           .b = tiles.dout.data,
                                           .b_row = width,
                                           .rows = padded,
                                           .columns = width,
                                           .depth = queries,
                                           .into = Into::sum});  // dV += P^T dO
  run_on<MultiplyTile>(isa, TileProduct<A>{.c = tiles.dkeys.row(key),
                                           .c_row = width,
                                           .a = tiles.gradient.data,
                                           .a_row = across,
                                           .a_column = 1,
                                           .b = tiles.queries.data,
                                           .b_row = width,
                                           .rows = padded,
                                           .columns = width,
                                           .depth = queries,
                                           .into = Into::sum});  // dK += dS^T Q
  run_on<MultiplyTile>(isa, TileProduct<A>{.c = tiles.dqueries_across.data,
                                           .c_row = across,
                                           .a = k,
                                           .a_row = 1,
                                           .a_column = width,
                                           .b = tiles.gradient.data,
                                           .b_row = across,
                                           .rows = width,
                                           .columns = across,
                                           .depth = keys,
                                           .into = Into::sum});  // dQ^T += K^T dS^T
}

template <class T>
void attend_head_backward(Device& device, const HeadGradient<T>& head, const WindowList& windows, const AttentionOptions& options) {
  using A = accumulate_t<T>;
  const Isa isa = device.isa();
  const std::int64_t width = tile_width(head.dims);
  const auto tiles = tiles_in_scratch<BackwardTiles<A>>(device, head.length, width);
  const A query_scale = static_cast<A>(options.scale) / static_cast<A>(options.layer_scale);
  const auto clear = [&](View<A, 2> view) { device.clear(view.data, static_cast<std::size_t>(view.size()) * sizeof(A)); };

  run_on<LoadRows>(isa, RowsIn<T>{tiles.keys.data, width, head.keys[0], head.keys.step, head.length, tiles.keys.extent(0), head.dims});
  run_on<LoadRows>(isa, RowsIn<T>{tiles.values.data, width, head.values[0], head.values.step, head.length, tiles.values.extent(0), head.dims});
  clear(tiles.dkeys);
  clear(tiles.dvalues);

  VisibleKeys<lane_integer_t<A>> visible;
  for (std::int64_t query = 0; query < head.length; query += tile_queries) {
    const std::int64_t count = smaller<std::int64_t>(tile_queries, head.length - query);
    find_visible_keys(visible, windows, head.row, query, static_cast<int>(count));
    run_on<LoadRows>(isa, RowsIn<T>{tiles.queries.data, width, head.queries[query], head.queries.step, count, tile_queries, head.dims, query_scale});
    run_on<LoadRows>(isa, RowsIn<T>{tiles.dout.data, width, head.dout[query], head.dout.step, count, tile_queries, head.dims});
    run_on<TransposeTile>(isa, tiles.queries_across.data, std::int64_t{tile_queries}, tiles.queries.data, width, std::int64_t{tile_queries}, width);
    run_on<TransposeTile>(isa, tiles.dout_across.data, std::int64_t{tile_queries}, tiles.dout.data, width, std::int64_t{tile_queries}, width);
    run_on<RowDots>(isa, tiles.delta.data, HeadRows<const T>{head.dout[query], head.dout.step}, HeadRows<const T>{head.out[query], head.out.step},
                    count, head.dims);
    for (std::int64_t i = 0; i < tile_queries; ++i) tiles.log_sum(i) = i < count ? head.log_sum[query + i] : A{0};
    clear(tiles.dqueries_across);

    for (std::int64_t key = visible.some_first; key < visible.some_last; key += tile_keys)
      attend_tile_backward(isa, tiles, head, visible, query, count, key, smaller<std::int64_t>(tile_keys, visible.some_last - key), options);

    run_on<TransposeTile>(isa, tiles.queries.data, width, tiles.dqueries_across.data, std::int64_t{tile_queries}, width, std::int64_t{tile_queries});
    run_on<StoreRows>(
        isa, RowsOut<T>{head.dqueries[query], head.dqueries.step, tiles.queries.data, width, count, head.dims, static_cast<A>(options.scale)});
  }
  run_on<StoreRows>(isa,
                    RowsOut<T>{head.dkeys[0], head.dkeys.step, tiles.dkeys.data, width, head.length, head.dims, static_cast<A>(options.layer_scale)});
  run_on<StoreRows>(isa, RowsOut<T>{head.dvalues[0], head.dvalues.step, tiles.dvalues.data, width, head.length, head.dims});
}

}  // namespace golem::cpu
