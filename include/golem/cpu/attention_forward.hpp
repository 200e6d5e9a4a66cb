// The forward of attention for one block of queries of one head: online softmax over tiles of keys.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "golem/core/buffer.hpp"
#include "golem/core/math.hpp"
#include "golem/cpu/attention_dropout.hpp"
#include "golem/cpu/attention_mask.hpp"
#include "golem/cpu/attention_softmax.hpp"
#include "golem/cpu/attention_tile.hpp"
#include "golem/cpu/device.hpp"

namespace golem::cpu {

/// D as tiles hold it: to the next multiple of 16, with zeros.
inline std::int64_t tile_width(std::int64_t dims) { return round_up(dims, 16); }

/// A struct of views that its constructor takes from an arena, in the scratch memory of the calling thread.
template <class Tiles, class... Sizes>
Tiles tiles_in_scratch(Device& device, Sizes... sizes) {
  Arena measure;
  Tiles(measure, sizes...);
  Arena arena(device.scratch<std::byte>(static_cast<std::int64_t>(measure.used())), measure.used());
  return Tiles(arena, sizes...);
}

/// Some rows of a head inside a tensor: row i is at data + i * step.
template <class T>
struct HeadRows {
  T* data = nullptr;
  std::int64_t step = 0;
  T* operator[](std::int64_t i) const { return data + i * step; }
};

/// Blocks of 64 queries that share the tiles of keys and values that one of them loads.
inline constexpr int group_blocks = 4;
inline constexpr std::int64_t group_queries = group_blocks * tile_queries;

/// Up to 256 queries of a head, with all keys and values that they might see.
template <class T>
struct QueryGroup {
  using A = accumulate_t<T>;
  HeadRows<T> out;                 // (count, D)
  A* log_sum = nullptr;            // (count) or null
  HeadRows<const T> queries;       // (count, D)
  HeadRows<const T> keys, values;  // (T, D)
  std::int64_t dims = 0, count = 0, key_count = 0;  // key_count: of the row, seen or not
  std::uint64_t first_element = 0, element_step = 0;       // of probability (first query, key 0), and from query to query, for dropout
  VisibleKeys<lane_integer_t<A>> visible[group_blocks]{};  // of each block
};

/// What a group works on. Scores and outputs are held transposed, with a query in each lane: so keys and values are read as
/// they lie, and the softmax never adds across lanes.
template <class A>
struct ForwardTiles {
  View<A, 2> rows, keys, values;  // (64, D)
  View<A, 2> scores, kept;        // (64 keys, 64 queries)
  View<A, 3> queries, outputs;    // (blocks, D, 64)
  View<A, 2> maximum, sum;        // (blocks, 64)
  View<A, 1> rescale;             // (64)

  ForwardTiles(Arena& arena, std::int64_t blocks, std::int64_t width)
      : rows(arena.take<A>(tile_queries, width)),
        keys(arena.take<A>(tile_keys, width)),
        values(arena.take<A>(tile_keys, width)),
        scores(arena.take<A>(tile_keys, tile_queries)),
        kept(arena.take<A>(tile_keys, tile_queries)),
        queries(arena.take<A>(blocks, width, tile_queries)),
        outputs(arena.take<A>(blocks, width, tile_queries)),
        maximum(arena.take<A>(blocks, tile_queries)),
        sum(arena.take<A>(blocks, tile_queries)),
        rescale(arena.take<A>(tile_queries)) {}
};

/// Scales and transposes the queries of block `b`, which has seen no key yet.
template <class T>
void begin_block(Isa isa, const ForwardTiles<accumulate_t<T>>& tiles, const QueryGroup<T>& group, std::int64_t b, accumulate_t<T> query_scale) {
  using A = accumulate_t<T>;
  const std::int64_t first = b * tile_queries, count = smaller<std::int64_t>(tile_queries, group.count - first), width = tiles.rows.extent(1);
  run_on<LoadRows>(isa, RowsIn<T>{tiles.rows.data, width, group.queries[first], group.queries.step, count, tile_queries, group.dims, query_scale});
  run_on<TransposeTile>(isa, tiles.queries.row(b), std::int64_t{tile_queries}, tiles.rows.data, width, std::int64_t{tile_queries}, width);
  for (int i = 0; i < tile_queries; ++i) {
    tiles.maximum(b, i) = std::numeric_limits<A>::lowest() / 2;  // finite, so that exp(maximum - maximum) is 1 before the first key
    tiles.sum(b, i) = 0;
  }
  for (std::int64_t i = 0; i < width * tile_queries; ++i) tiles.outputs.row(b)[i] = 0;
}

/// Block `b` meets the `keys` keys and values in `tiles`, of which `key` is the first.
template <class T>
void meet_keys(Isa isa, const ForwardTiles<accumulate_t<T>>& tiles, const QueryGroup<T>& group, std::int64_t b, std::int64_t key, std::int64_t keys,
               const AttentionOptions& options) {
  using A = accumulate_t<T>;
  const std::int64_t width = tiles.rows.extent(1);
  const auto& visible = group.visible[b];
  const Strided<A> k{tiles.keys.data, width}, v{tiles.values.data, width}, q{tiles.queries.row(b), tile_queries},
      o{tiles.outputs.row(b), tile_queries}, s{tiles.scores.data, tile_queries};
  const bool all = visible.see_all(key, keys);
  const std::int64_t part = all ? keys : part_keys;
  for (std::int64_t j = 0; j < keys; j += part) {  // S^T = K Q^T
    const std::int64_t lane = visible.first_lane(key + j), rows = round_up(smaller(part, keys - j), MultiplyTile::block_rows);
    run_on<MultiplyTile>(isa, TileProduct<A>{s.from(j, lane), k.from(j, 0), q.from(0, lane), rows, tile_queries - lane, group.dims});
  }
  run_on<SoftmaxTile>(isa,
                      ScoreTile<A>{s.data, keys, tile_queries, key, all ? nullptr : visible.first, visible.last, static_cast<A>(options.layer_scale),
                                   visible.contexts_first(), visible.contexts_last()},
                      tiles.maximum.row(b), tiles.sum.row(b), tiles.rescale.data);
  if (const ProbabilityDropout<A> dropout(options); dropout) {
    const std::uint64_t first = group.first_element + static_cast<std::uint64_t>(b) * tile_queries * group.element_step;
    dropout.fill(tiles.kept.data, first + static_cast<std::uint64_t>(key), group.element_step, keys, tile_queries);
    for (std::int64_t i = 0; i < keys * tile_queries; ++i) s.data[i] *= tiles.kept.data[i];
  }
  for (std::int64_t j = 0; j < keys; j += part) {  // O^T = O^T rescale + V^T P^T
    const std::int64_t lane = visible.first_lane(key + j), depth = smaller(part, keys - j);
    run_on<MultiplyTile>(isa, TileProduct<A>{o.from(0, lane), v.from(j, 0).transposed(), s.from(j, lane), width, tile_queries - lane, depth,
                                             j == 0 ? Into::rescaled : Into::sum, tiles.rescale.data + lane});
  }
}

/// Divides the outputs of block `b` by their sums and stores them.
template <class T>
void end_block(Isa isa, const ForwardTiles<accumulate_t<T>>& tiles, const QueryGroup<T>& group, std::int64_t b) {
  using A = accumulate_t<T>;
  const std::int64_t first = b * tile_queries, count = smaller<std::int64_t>(tile_queries, group.count - first), width = tiles.rows.extent(1);
  for (std::int64_t i = 0; i < count; ++i) {
    const bool none = tiles.sum(b, i) == 0;  // outside every window
    if (group.log_sum) group.log_sum[first + i] = none ? A{0} : tiles.maximum(b, i) + std::log(tiles.sum(b, i));
    tiles.sum(b, i) = none ? A{0} : 1 / tiles.sum(b, i);
  }
  run_on<TransposeTile>(isa, tiles.rows.data, width, tiles.outputs.row(b), std::int64_t{tile_queries}, width, std::int64_t{tile_queries});
  run_on<StoreRows>(isa, RowsOut<T>{group.out[first], group.out.step, tiles.rows.data, width, count, group.dims, 1, tiles.sum.row(b)});
}

template <class T>
void attend_group(Device& device, const QueryGroup<T>& group, const AttentionOptions& options) {
  using A = accumulate_t<T>;
  const Isa isa = device.isa();
  const std::int64_t blocks = ceil_div(group.count, tile_queries), width = tile_width(group.dims);
  const auto tiles = tiles_in_scratch<ForwardTiles<A>>(device, blocks, width);
  const A query_scale = static_cast<A>(options.scale) / static_cast<A>(options.layer_scale);

  std::int64_t first = std::numeric_limits<std::int64_t>::max(), last = 0;
  for (std::int64_t b = 0; b < blocks; ++b) {
    first = smaller(first, group.visible[b].some_first);
    last = larger(last, group.visible[b].some_last);
    begin_block(isa, tiles, group, b, query_scale);
  }
  for (std::int64_t key = first; key < last; key += tile_keys) {
    const std::int64_t keys = smaller<std::int64_t>(tile_keys, last - key);
    run_on<LoadRows>(isa,
                     RowsIn<T>{tiles.keys.data, width, group.keys[key], group.keys.step, keys, round_up(keys, MultiplyTile::block_rows), group.dims});
    run_on<LoadRows>(isa, RowsIn<T>{tiles.values.data, width, group.values[key], group.values.step, keys, keys, group.dims});
    for (std::int64_t b = 0; b < blocks; ++b)
      if (group.visible[b].see_some(key, keys)) meet_keys(isa, tiles, group, b, key, keys, options);
  }
  for (std::int64_t b = 0; b < blocks; ++b) end_block(isa, tiles, group, b);
}

}  // namespace golem::cpu
