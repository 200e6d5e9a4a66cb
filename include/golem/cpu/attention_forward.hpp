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

/// Up to 64 queries of a head, with all keys and values that they might see.
template <class T>
struct QueryBlock {
  using A = accumulate_t<T>;
  HeadRows<T> out;                 // (count, D)
  A* log_sum = nullptr;            // (count) or null
  HeadRows<const T> queries;       // (count, D)
  HeadRows<const T> keys, values;  // (keys, D)
  std::int64_t dims = 0;
  int count = 0;
  VisibleKeys<lane_integer_t<A>> visible{};
  std::uint64_t first_element = 0, element_step = 0;  // of probability (first query, key 0), and from query to query, for dropout
};

/// What a block works on. Scores and outputs are held transposed, with a query in each lane: so keys and values are read as
/// they lie, and the softmax never adds across lanes.
template <class A>
struct ForwardTiles {
  View<A, 2> rows;                   // (64, D)
  View<A, 2> queries, outputs;       // (D, 64)
  View<A, 2> scores, kept;           // (64 keys, 64 queries)
  View<A, 2> keys, values;           // (64, D)
  View<A, 1> maximum, sum, rescale;  // (64)

  ForwardTiles(Arena& arena, std::int64_t width)
      : rows(arena.take<A>(tile_queries, width)),
        queries(arena.take<A>(width, tile_queries)),
        outputs(arena.take<A>(width, tile_queries)),
        scores(arena.take<A>(tile_keys, tile_queries)),
        kept(arena.take<A>(tile_keys, tile_queries)),
        keys(arena.take<A>(tile_keys, width)),
        values(arena.take<A>(tile_keys, width)),
        maximum(arena.take<A>(tile_queries)),
        sum(arena.take<A>(tile_queries)),
        rescale(arena.take<A>(tile_queries)) {}
};

template <class T>
void attend_block(Device& device, const QueryBlock<T>& block, const AttentionOptions& options) {
  using A = accumulate_t<T>;
  const Isa isa = device.isa();
  const std::int64_t width = tile_width(block.dims);
  const auto tiles = tiles_in_scratch<ForwardTiles<A>>(device, width);
  const ProbabilityDropout<A> dropout(options);
  const A query_scale = static_cast<A>(options.scale) / static_cast<A>(options.layer_scale);

  run_on<LoadRows>(isa, RowsIn<T>{tiles.rows.data, width, block.queries[0], block.queries.step, block.count, tile_queries, block.dims, query_scale});
  run_on<TransposeTile>(isa, tiles.queries.data, std::int64_t{tile_queries}, tiles.rows.data, width, std::int64_t{tile_queries}, width);
  for (int i = 0; i < tile_queries; ++i) {
    tiles.maximum(i) = std::numeric_limits<A>::lowest() / 2;  // finite: a query that has seen no key yet moves on from it by a factor of 1
    tiles.sum(i) = 0;
  }
  device.clear(tiles.outputs.data, static_cast<std::size_t>(tiles.outputs.size()) * sizeof(A));

  for (std::int64_t key = block.visible.some_first; key < block.visible.some_last; key += tile_keys) {
    const std::int64_t keys = smaller<std::int64_t>(tile_keys, block.visible.some_last - key), padded = round_up(keys, MultiplyTile::block_rows);
    run_on<LoadRows>(isa, RowsIn<T>{tiles.keys.data, width, block.keys[key], block.keys.step, keys, padded, block.dims});
    run_on<LoadRows>(isa, RowsIn<T>{tiles.values.data, width, block.values[key], block.values.step, keys, keys, block.dims});
    run_on<MultiplyTile>(isa, TileProduct<A>{.c = tiles.scores.data,
                                             .c_row = tile_queries,
                                             .a = tiles.keys.data,
                                             .a_row = width,
                                             .a_column = 1,
                                             .b = tiles.queries.data,
                                             .b_row = tile_queries,
                                             .rows = padded,
                                             .columns = tile_queries,
                                             .depth = block.dims});  // S^T = K Q^T
    const bool all = block.visible.see_all(key, keys);
    run_on<SoftmaxTile>(isa,
                        ScoreTile<A>{tiles.scores.data, keys, tile_queries, key, all ? nullptr : block.visible.first, block.visible.last,
                                     static_cast<A>(options.layer_scale)},
                        tiles.maximum.data, tiles.sum.data, tiles.rescale.data);
    if (dropout) {
      dropout.fill(tiles.kept.data, block.first_element + static_cast<std::uint64_t>(key), block.element_step, keys, tile_queries);
      for (std::int64_t i = 0; i < keys * tile_queries; ++i) tiles.scores.data[i] *= tiles.kept.data[i];
    }
    run_on<MultiplyTile>(isa, TileProduct<A>{.c = tiles.outputs.data,
                                             .c_row = tile_queries,
                                             .a = tiles.values.data,
                                             .a_row = 1,
                                             .a_column = width,
                                             .b = tiles.scores.data,
                                             .b_row = tile_queries,
                                             .rows = width,
                                             .columns = tile_queries,
                                             .depth = keys,
                                             .into = Into::rescaled,
                                             .rescale = tiles.rescale.data});  // O^T = O^T rescale + V^T P^T
  }

  run_on<TransposeTile>(isa, tiles.rows.data, width, tiles.outputs.data, std::int64_t{tile_queries}, width, std::int64_t{tile_queries});
  for (int i = 0; i < block.count; ++i) {
    const bool none = tiles.sum(i) == 0;  // outside every window
    if (block.log_sum) block.log_sum[i] = none ? A{0} : tiles.maximum(i) + std::log(tiles.sum(i));
    tiles.sum(i) = none ? A{0} : 1 / tiles.sum(i);
  }
  run_on<StoreRows>(isa, RowsOut<T>{block.out[0], block.out.step, tiles.rows.data, width, block.count, block.dims, 1, tiles.sum.data});
}

}  // namespace golem::cpu
