// The backward of attention for the heads of one row that share keys and values: probabilities are made again from the saved log-sum-exp, tile by tile.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "golem/cpu/attention_forward.hpp"

namespace golem::cpu {

/// Where a head of row `row` finds its operands, T rows each; the first of `sharers` heads side by side that share keys and values.
template <class T>
struct HeadGradient {
  using A = accumulate_t<T>;
  HeadRows<T> dqueries, dkeys, dvalues;
  HeadRows<const T> dout, out, queries, keys, values;
  const A* log_sum = nullptr;  // (T)
  std::int64_t length = 0, dims = 0, row = 0, sharers = 1;
  std::uint64_t first_element = 0, element_step = 0;  // of probability (0, 0), and from query to query, for dropout

  /// The head behind `count` others.
  HeadGradient behind(std::int64_t count) const {
    HeadGradient head = *this;
    head.dqueries.data += count * dims, head.queries.data += count * dims, head.dout.data += count * dims, head.out.data += count * dims;
    head.log_sum += count * length;
    head.first_element += static_cast<std::uint64_t>(count) * element_step * element_step;
    return head;
  }
};

/// What they work on: keys and values with their gradients whole, queries in blocks of 64, some of them both ways round
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
  const std::int64_t width = tiles.keys.extent(1), padded = round_up(keys, MultiplyTile::block_rows);
  const Strided<A> k{tiles.keys.row(key), width}, v{tiles.values.row(key), width}, dk{tiles.dkeys.row(key), width}, dv{tiles.dvalues.row(key), width},
      q{tiles.queries.data, width}, dout{tiles.dout.data, width}, q_across{tiles.queries_across.data, tile_queries},
      dout_across{tiles.dout_across.data, tile_queries}, dq_across{tiles.dqueries_across.data, tile_queries}, p{tiles.scores.data, tile_queries},
      ds{tiles.gradient.data, tile_queries};
  const bool all = visible.see_all(key, padded);
  const std::int64_t part = all ? padded : part_keys;
  for (std::int64_t j = 0; j < keys; j += part) {
    const std::int64_t lane = visible.first_lane(key + j), rows = smaller(part, padded - j), lanes = tile_queries - lane;
    run_on<MultiplyTile>(isa, TileProduct<A>{p.from(j, lane), k.from(j, 0), q_across.from(0, lane), rows, lanes, head.dims});      // S^T = K Q^T
    run_on<MultiplyTile>(isa, TileProduct<A>{ds.from(j, lane), v.from(j, 0), dout_across.from(0, lane), rows, lanes, head.dims});  // dP^T = V dO^T
  }
  const ProbabilityDropout<A> dropout(options);
  if (dropout) {
    const std::uint64_t element = head.first_element + static_cast<std::uint64_t>(query) * head.element_step + static_cast<std::uint64_t>(key);
    dropout.fill(tiles.kept.data, element, head.element_step, padded, tile_queries);
  }
  run_on<SoftmaxGradientTile>(
      isa, ScoreTile<A>{p.data, padded, tile_queries, key, all ? nullptr : visible.first, visible.last, static_cast<A>(options.layer_scale),
                         visible.contexts_first(), visible.contexts_last()},
      ds.data,
      tiles.log_sum.data, tiles.delta.data, dropout ? tiles.kept.data : nullptr);
  for (std::int64_t j = 0; j < keys; j += part) {
    const std::int64_t lane = visible.first_lane(key + j), rows = smaller(part, padded - j), lanes = larger<std::int64_t>(queries - lane, 0);
    run_on<MultiplyTile>(isa, TileProduct<A>{dv.from(j, 0), p.from(j, lane), dout.from(lane, 0), rows, width, lanes, Into::sum});  // dV += P^T dO
    run_on<MultiplyTile>(isa, TileProduct<A>{dk.from(j, 0), ds.from(j, lane), q.from(lane, 0), rows, width, lanes, Into::sum});    // dK += dS^T Q
    run_on<MultiplyTile>(isa, TileProduct<A>{dq_across.from(0, lane), k.from(j, 0).transposed(), ds.from(j, lane), width, tile_queries - lane,
                                             smaller(part, keys - j), Into::sum});  // dQ^T += K^T dS^T
  }
}

/// The gradient of one head's queries, and its part of that of the keys and values in `tiles`.
template <class T>
void attend_queries_backward(Device& device, const BackwardTiles<accumulate_t<T>>& tiles, const HeadGradient<T>& head, const WindowList& windows, const AttentionOptions& options) {
  using A = accumulate_t<T>;
  const Isa isa = device.isa();
  const std::int64_t width = tiles.keys.extent(1);
  const A query_scale = static_cast<A>(options.scale) / static_cast<A>(options.layer_scale);
  VisibleKeys<lane_integer_t<A>> visible;
  for (std::int64_t query = 0; query < head.length; query += tile_queries) {
    const std::int64_t count = smaller<std::int64_t>(tile_queries, head.length - query);
    find_visible_keys(visible, windows, head.row, query, count);
    run_on<LoadRows>(isa, RowsIn<T>{tiles.queries.data, width, head.queries[query], head.queries.step, count, tile_queries, head.dims, query_scale});
    run_on<LoadRows>(isa, RowsIn<T>{tiles.dout.data, width, head.dout[query], head.dout.step, count, tile_queries, head.dims});
    run_on<TransposeTile>(isa, tiles.queries_across.data, std::int64_t{tile_queries}, tiles.queries.data, width, std::int64_t{tile_queries}, width);
    run_on<TransposeTile>(isa, tiles.dout_across.data, std::int64_t{tile_queries}, tiles.dout.data, width, std::int64_t{tile_queries}, width);
    run_on<RowDots>(isa, tiles.delta.data, HeadRows<const T>{head.dout[query], head.dout.step}, HeadRows<const T>{head.out[query], head.out.step},
                    count, head.dims);
    for (std::int64_t i = 0; i < tile_queries; ++i) tiles.log_sum(i) = i < count ? head.log_sum[query + i] : A{0};
    device.clear(tiles.dqueries_across.data, static_cast<std::size_t>(tiles.dqueries_across.size()) * sizeof(A));

    for (std::int64_t key = visible.some_first; key < visible.some_last; key += tile_keys)
      attend_tile_backward(isa, tiles, head, visible, query, count, key, smaller<std::int64_t>(tile_keys, visible.some_last - key), options);

    run_on<TransposeTile>(isa, tiles.queries.data, width, tiles.dqueries_across.data, std::int64_t{tile_queries}, width, std::int64_t{tile_queries});
    run_on<StoreRows>(
        isa, RowsOut<T>{head.dqueries[query], head.dqueries.step, tiles.queries.data, width, count, head.dims, static_cast<A>(options.scale)});
  }
}

template <class T>
void attend_head_backward(Device& device, const HeadGradient<T>& head, const WindowList& windows, const AttentionOptions& options) {
  using A = accumulate_t<T>;
  const Isa isa = device.isa();
  const std::int64_t width = tile_width(head.dims);
  const auto tiles = tiles_in_scratch<BackwardTiles<A>>(device, head.length, width);
  run_on<LoadRows>(isa, RowsIn<T>{tiles.keys.data, width, head.keys[0], head.keys.step, head.length, tiles.keys.extent(0), head.dims});
  run_on<LoadRows>(isa, RowsIn<T>{tiles.values.data, width, head.values[0], head.values.step, head.length, tiles.values.extent(0), head.dims});
  device.clear(tiles.dkeys.data, static_cast<std::size_t>(tiles.dkeys.size()) * sizeof(A));
  device.clear(tiles.dvalues.data, static_cast<std::size_t>(tiles.dvalues.size()) * sizeof(A));
  for (std::int64_t s = 0; s < head.sharers; ++s) attend_queries_backward(device, tiles, head.behind(s), windows, options);
  run_on<StoreRows>(isa,
                    RowsOut<T>{head.dkeys[0], head.dkeys.step, tiles.dkeys.data, width, head.length, head.dims, static_cast<A>(options.layer_scale)});
  run_on<StoreRows>(isa, RowsOut<T>{head.dvalues[0], head.dvalues.step, tiles.dvalues.data, width, head.length, head.dims});
}

}  // namespace golem::cpu
