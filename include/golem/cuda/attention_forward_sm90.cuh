// The forward of attention on sm_90a: one warpgroup fetches keys and values, two take 64 queries each, and products run beside the softmax.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "golem/core/math.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/architecture.hpp"
#include "golem/cuda/attention_forward.cuh"
#include "golem/cuda/attention_mask.cuh"
#include "golem/cuda/attention_shape.cuh"
#include "golem/cuda/attention_softmax.cuh"
#include "golem/cuda/attention_tile.cuh"
#include "golem/cuda/box_tile.cuh"
#include "golem/cuda/tile_ring.cuh"

namespace golem::cuda {

/// The widest heads that it takes: the sums of wider ones do not fit in registers.
inline constexpr int most_sm90_dims = 128;

/// A block's shared memory.
template <class T, int HeadDim>
struct ForwardMemory {
  using Tile = BoxTile<T, block_rows, HeadDim>;
  TileRing<Tile, 2> queries, keys, values;

  __device__ void init() {
    queries.init(), keys.init(), values.init();
    ptx::show_shared_writes();
  }
  /// Fetches the tiles of keys and values from number t on, of which the first of all is number `first`, up to number `end`, as places come free. By one thread.
  __device__ void fetch(const CUtensorMap& qkv, const KeyTiles& tiles, int first, int t, int end, int key_slot, int row) {
    for (; t < end; ++t) {
      keys.fetch(first + t, qkv, key_slot, tiles.first_key + t * block_rows, row);
      values.fetch(first + t, qkv, key_slot + 1, tiles.first_key + t * block_rows, row);
    }
  }
};

/// The 64 queries of a warpgroup: lanes hold the rows lane / 4 and lane / 4 + 8 of their warp's 16.
template <class T, int HeadDim>
struct WarpgroupQueries {
  static constexpr int columns = block_rows / 8;
  ForwardMemory<T, HeadDim>& memory;
  const AttentionShape<T>& shape;
  TileKeys visible;
  int own[2], row, head, first_row;  // first_row: of the block's queries
  int number, first;                 // of the tile of queries, and of its first tile of keys, among all that the block goes through
  KeyRange range[2];
  OnlineSoftmax softmax;
  float o[HeadDim / 8][4];
  std::uint32_t p[columns / 2][4];

  /// Asks for the scores of tile t of keys.
  __device__ void score_async(float (&s)[columns][4], int t) const {
    memory.keys.wait(first + t);
    ptx::settle(s);
    ptx::begin_products();
    multiply_transposed_async(s, memory.queries.at(number), first_row, memory.keys.at(first + t));
    ptx::commit_products();
  }
  /// Asks for the sum of values of tile t, weighed by p.
  __device__ void add_values_async(int t) {
    memory.values.wait(first + t);
    ptx::settle(o);
    ptx::begin_products();
    multiply_plain_async(o, p, memory.values.at(first + t));
    ptx::commit_products();
  }
  /// Scores of the keys from `key` on become probabilities, before dropout.
  __device__ void soften(float (&s)[columns][4], float (&rescale)[2], int key) {
    const int pair = 2 * (ptx::lane() % 4);
    if (!visible.see_all(key, block_rows)) hide_keys(s, range, key + pair);
    softmax.meet(s, rescale, shape.score_scale);
    if (!shape.dropout.threshold) return;
    const std::uint64_t kept = kept_keys<1, columns>(shape, row, head, own[0], key + pair);
#pragma unroll
    for (int n = 0; n < columns; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) s[n][e] *= kept >> (4 * n + e) & 1 ? shape.dropout.kept : 0.0f;
  }
  /// All tiles in turn: while the scores of one become probabilities, the values of the one before are summed; and while the first are made, what `beside` does.
  template <class Beside>
  __device__ void attend(const KeyTiles& tiles, const Beside& beside) {
    const auto probabilities_of = [&](int t, float (&s)[columns][4], float (&rescale)[2]) {
      ptx::settle(s);
      memory.keys.leave(first + t);
      soften(s, rescale, tiles.first_key + t * block_rows);
    };
    float s[columns][4], rescale[2];
    for (int t = 0; t < tiles.first_seen; ++t) memory.keys.pass(first + t), memory.values.pass(first + t);
    if (tiles.first_seen < tiles.end_seen) {
      score_async(s, tiles.first_seen);
      beside();
      ptx::wait_for_products<0>();
      probabilities_of(tiles.first_seen, s, rescale);
      pack_left<T>(p, s);
      for (int t = tiles.first_seen + 1; t < tiles.end_seen; ++t) {
        score_async(s, t);
        add_values_async(t - 1);
        ptx::wait_for_products<1>();
        probabilities_of(t, s, rescale);
        ptx::wait_for_products<0>();
        ptx::settle(o);
        memory.values.leave(first + t - 1);
#pragma unroll
        for (int n = 0; n < HeadDim / 8; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) o[n][e] *= rescale[e / 2];
        pack_left<T>(p, s);
      }
      add_values_async(tiles.end_seen - 1);
      ptx::wait_for_products<0>();
      ptx::settle(o);
      memory.values.leave(first + tiles.end_seen - 1);
    } else {
      beside();
    }
    for (int t = tiles.end_seen; t < tiles.count; ++t) memory.keys.pass(first + t), memory.values.pass(first + t);
  }
  /// Writes out (N, H, D) and log_sum (B, H, T), unless null.
  __device__ void finish(T* out, float* log_sum) const { store_attended(out, log_sum, o, softmax, own, row, head, shape); }
};

/// The queries that a block takes in turn: block_rows of them, and then as many from the other end of the row, whose keys are fetched while
/// the first are finished. Where the mask is causal, the two together see as much as any other block's.
template <class T>
struct QueryTurns {
  const TileKeys* tiles;
  const AttentionShape<T>& shape;
  int row, mine, last;

  __device__ QueryTurns(const TileKeys* tiles, const AttentionShape<T>& shape, const BlockOrder::Place& place)
      : tiles(tiles), shape(shape), row(place.row), mine(place.block), last(ceil_div(shape.length, block_rows) - 1) {}
  __device__ int count() const { return mine == last - mine ? 1 : 2; }
  __device__ int query(int turn) const { return (turn ? mine : last - mine) * block_rows; }  // the long one first
  /// What the queries of a warpgroup see.
  __device__ TileKeys visible(int turn, int reader) const { return visible_of(tiles, row, query(turn) / tile_queries + reader, ceil_div(shape.length, tile_queries)); }
  __device__ KeyTiles keys(int turn, const TileKeys& own) const { return {visible(turn, 0), visible(turn, 1), own, block_rows}; }
};

/// As attend_kernel; `qkv` describes (B, T, G (S + 2), D).
template <class T, int HeadDim>
__global__ void __launch_bounds__(128 * (1 + reading_warpgroups), 1)
    attend_sm90_kernel(const __grid_constant__ CUtensorMap qkv, T* out, float* log_sum, const KeyRange* ranges, const TileKeys* tiles, AttentionShape<T> shape, BlockOrder order) {
  ptx::begin_kernel();
  ptx::require_sm_90a();
  auto& memory = aligned_shared<ForwardMemory<T, HeadDim>>();
  const BlockOrder::Place place = order.place(blockIdx.x, blockIdx.y, blockIdx.z);
  if (place.head >= order.heads) return;
  const int reader = warpgroup() - 1, head = place.head;
  const QueryTurns<T> turns(tiles, shape, place);
  if (threadIdx.x == 0) memory.init();
  __syncthreads();
  if (reader < 0) {
    ptx::give_registers<fetching_registers>();
    if (threadIdx.x != 0) return;
    const int query_slot = shape.slot(head, 0), key_slot = shape.slot(head, 1);
    memory.queries.fetch(0, qkv, query_slot, turns.query(0), turns.row);
    for (int turn = 0, first = 0; turn < turns.count(); ++turn) {
      const KeyTiles keys = turns.keys(turn, {});
      const int soon = smaller(keys.count, 1);
      memory.fetch(qkv, keys, first, 0, soon, key_slot, turns.row);
      if (turn + 1 < turns.count()) memory.queries.fetch(turn + 1, qkv, query_slot, turns.query(turn + 1), turns.row);
      memory.fetch(qkv, keys, first, soon, keys.count, key_slot, turns.row);
      first += keys.count;
    }
  } else {
    ptx::take_registers<multiplying_registers>();
    const auto scale_queries = [&](int turn) {
      memory.queries.wait(turn);
      scale_rows_of(memory.queries.at(turn), reader * warpgroup_rows, shape.query_scale, reader);
    };
    scale_queries(0);
#pragma unroll 1
    for (int turn = 0, first = 0; turn < turns.count(); ++turn) {
      const TileKeys visible = turns.visible(turn, reader);
      const KeyTiles keys = turns.keys(turn, visible);
      WarpgroupQueries<T, HeadDim> mine{.memory = memory,
                                        .shape = shape,
                                        .visible = visible,
                                        .own = {},
                                        .row = turns.row,
                                        .head = head,
                                        .first_row = reader * warpgroup_rows,
                                        .number = turn,
                                        .first = first,
                                        .range = {},
                                        .softmax = {},
                                        .o = {},
                                        .p = {}};
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        mine.own[half] = turns.query(turn) + mine.first_row + static_cast<int>(threadIdx.x) % 128 / 32 * 16 + ptx::lane() / 4 + 8 * half;
        if (mine.own[half] < shape.length) mine.range[half] = ranges[std::int64_t{turns.row} * shape.length + mine.own[half]];
      }
      mine.attend(keys, [&] {
        if (turn + 1 < turns.count()) scale_queries(turn + 1);
      });
      mine.finish(out, log_sum);
      first += keys.count;
    }
  }
}

/// Starts the forward of sm_90a; false where it was not asked for, or cannot run on this device.
template <int HeadDim, class T>
bool start_forward(sm_90a, Device& device, const AttentionCall<T>& call) {
  constexpr std::size_t bytes = sizeof(ForwardMemory<T, HeadDim>) + box_alignment;
  const AttentionShape<T>& shape = call.shape;
  if (!has_matrix_path<T>(device, shape.dims, bytes) || !takes_sm_90a(device, "attend_sm90", attend_sm90_kernel<T, HeadDim>)) return false;
  const CUtensorMap qkv = describe_for_tiles(call.qkv.data, shape.rows, shape.length, shape.slots, shape.dims);
  const BlockOrder order = order_blocks(device, shape, ceil_div(shape.length, 2 * block_rows), shape.heads, shape.key_heads());
  launch(device, in_order("attend_sm90", order, shape.rows, 128 * (1 + reading_warpgroups), bytes), attend_sm90_kernel<T, HeadDim>, qkv, call.out, call.log_sum,
         call.visible.ranges.data, call.visible.tiles.data, shape, order);
  return true;
}

}  // namespace golem::cuda
