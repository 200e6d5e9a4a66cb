// d key and d value on sm_90a: a warpgroup that fetches queries and dout, with what their scores need, and two that multiply 64 keys each.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>

#include <cmath>
#include <cstdint>

#include "golem/core/math.hpp"
#include "golem/cuda/attention_backward_tiles_sm90.cuh"
#include "golem/cuda/attention_mask.cuh"
#include "golem/cuda/attention_shape.cuh"
#include "golem/cuda/attention_softmax.cuh"
#include "golem/cuda/attention_tile.cuh"
#include "golem/cuda/tile_ring.cuh"

namespace golem::cuda {

/// A tile of queries that passes by: what they see, and where they are. `row` is -1 behind the last.
struct PassingTile {
  TileKeys visible;
  int row, head, query;
};

/// Tiles in turn, with what the scores of their 64 queries need of each. Each stage has a warp that fills it, so that none waits
/// for another's reads of global memory.
template <int Stages>
struct PassingQueries {
  static_assert(Stages <= 3, "golem: a warpgroup has three warps beside that which fetches tiles");
  struct Queries {
    alignas(16) KeyRange range[passing_rows];
    float log_sum[passing_rows], delta[passing_rows];  // of base 2; dot products of dout and out
    PassingTile tile;
  };
  Queries data[Stages];
  ptx::PhaseBarrier full[Stages], empty[Stages];

  __device__ void init() {
    for (int i = 0; i < Stages; ++i) ptx::init_barrier(full[i], 32), ptx::init_barrier(empty[i], 4 * reading_warpgroups);
  }
  __device__ const Queries& at(int t) const { return data[t % Stages]; }
  /// Whether this warp of those that fetch, the first of which fetches the tiles themselves, fills tile t.
  __device__ static bool fills(int warp, int t) { return warp == 1 + t % Stages; }
  /// Tile t, once its place is free, for the block_rows keys from `key` on: ranges only where the tile's queries do not see them all. By its warp, for one t after the other; behind
  /// the last `end` of the next.
  template <class T>
  __device__ void fill(int t, const AttentionGradient<T>& g, const PassingTile& tile, int key) {
    const int length = g.shape.length;
    const std::int64_t own = (std::int64_t{tile.row} * g.shape.heads + tile.head) * length;
    Queries& to = data[t % Stages];
    ptx::wait_for_phase(empty[t % Stages], (t / Stages + 1) % 2);
    if (ptx::lane() == 0) to.tile = tile;
    for (int i = ptx::lane(); i < passing_rows; i += 32) {
      const int query = tile.query + i;
      const bool there = query < length;
      if (!tile.visible.see_all(key, block_rows)) to.range[i] = there ? g.ranges[std::int64_t{tile.row} * length + query] : KeyRange{};
      to.log_sum[i] = there ? g.log_sum[own + query] * log2_e<float> : 0.0f;
      to.delta[i] = there ? g.delta[own + query] : 0.0f;
    }
    ptx::arrive(full[t % Stages]);
  }
  __device__ void end(int t) {
    ptx::wait_for_phase(empty[t % Stages], (t / Stages + 1) % 2);
    if (ptx::lane() == 0) data[t % Stages].tile.row = -1;
    ptx::arrive(full[t % Stages]);
  }
  /// As of TileRing; but here lanes have read for themselves, and the first speaks for all.
  __device__ void wait(int t) { ptx::wait_for_phase(full[t % Stages], t / Stages % 2); }
  __device__ void leave(int t) {
    __syncwarp();
    if (ptx::lane() == 0) ptx::arrive(empty[t % Stages]);
  }
};

/// A block's shared memory.
template <class T, int HeadDim>
struct DkeyMemory : BackwardMemory<T, HeadDim> {
  PassingQueries<BackwardMemory<T, HeadDim>::stages> queries;

  __device__ void init() {
    queries.init();
    BackwardMemory<T, HeadDim>::init();  // shows both
  }
};

/// As attend_dkey_kernel: a block takes block_rows keys, and tiles of queries of the heads that share them pass by, those that see some, with their dout.
/// While the tensor cores multiply by a tile's dout, its scores become probabilities; while they sum up d value, d probabilities become d scores; and
/// the next tile's scores begin before d key is summed up.
template <class T, int HeadDim>
__global__ void __launch_bounds__(128 * (1 + reading_warpgroups), 1) attend_dkey_sm90_kernel(const __grid_constant__ BackwardTensors tensors, AttentionGradient<T> g, BlockOrder order) {
  ptx::begin_kernel();
  ptx::require_sm_90a();
  const AttentionShape<T>& shape = g.shape;
  auto& memory = aligned_shared<DkeyMemory<T, HeadDim>>();
  const BlockOrder::Place place = order.place(blockIdx.x, blockIdx.y, blockIdx.z);
  if (place.head >= order.heads) return;
  const int reader = warpgroup() - 1, lane = ptx::lane(), first_head = place.head * shape.sharers, row = place.row, block_key = place.block * block_rows;
  if (threadIdx.x == 0) memory.init();
  __syncthreads();
  if (reader < 0) {
    ptx::give_registers<fetching_registers>();
    const int warp = static_cast<int>(threadIdx.x) / 32;
    if (threadIdx.x == 0) {
      memory.own_first.fetch(0, tensors.qkv, shape.slot(first_head, 1), block_key, row);
      memory.own_second.fetch(0, tensors.qkv, shape.slot(first_head, 2), block_key, row);
    }
    const int tile_count = ceil_div(shape.length, tile_queries);
    const TileKeys* tiles = g.tiles + std::int64_t{row} * tile_count;
    int t = 0;
    for (int sharer = 0; sharer < shape.sharers; ++sharer)
      for (int tile = 0; tile < tile_count; ++tile) {
        const TileKeys visible = tiles[tile];
        if (!visible.see_some(block_key, block_rows)) continue;
        const int head = first_head + sharer, query = tile * tile_queries;
        if (memory.queries.fills(warp, t)) {
          memory.queries.fill(t, g, {.visible = visible, .row = row, .head = head, .query = query}, block_key);
        } else if (threadIdx.x == 0) {
          memory.first.fetch(t, tensors.queries, shape.slot(head, 0), query, row);
          memory.second.fetch(t, tensors.dout, head, query, row);
        }
        ++t;
      }
    if (memory.queries.fills(warp, t)) memory.queries.end(t);
  } else {
    ptx::take_registers<multiplying_registers>();
    constexpr int columns = passing_rows / 8;
    const int first_row = reader * warpgroup_rows, key = block_key + first_row, own_key = key + static_cast<int>(threadIdx.x) % 128 / 32 * 16 + lane / 4, pair = 2 * (lane % 4);
    const float to_log2 = shape.score_scale * log2_e<float>;
    float s[columns][4], ds[columns][4], dk[HeadDim / 8][4]{}, dv[HeadDim / 8][4]{};  // s, ds transposed: a row a key
    std::uint32_t p[columns / 2][4], left[columns / 2][4];                          // the left sides of d value and d key
    int last = -1;  // the tile that products may still read
    const auto leave_last = [&] {
      if (last >= 0) memory.first.leave(last), memory.second.leave(last);
      last = -1;
    };
    /// The first tile from t on that sees some of the warpgroup's keys; -1 where there is none.
    const auto next_seeing = [&](int t) {
      for (;; ++t) {
        memory.queries.wait(t);
        const PassingTile& tile = memory.queries.at(t).tile;
        if (tile.row < 0) return -1;
        if (tile.visible.see_some(key, warpgroup_rows)) return t;
        ptx::wait_for_products<0>();
        leave_last();
        memory.first.pass(t), memory.second.pass(t), memory.queries.leave(t);
      }
    };
    memory.own_first.wait(0);
    memory.own_second.wait(0);
    for (int t = next_seeing(0); t >= 0; t = next_seeing(t + 1)) {
      const auto& queries = memory.queries.at(t);
      memory.first.wait(t);
      ptx::settle(s);
      ptx::begin_products();
      multiply_transposed_async(s, memory.own_first.at(0), first_row, memory.first.at(t));
      ptx::commit_products();
      ptx::wait_for_products<1>();  // for d value and d key before them, whose left sides have been read then: registers are few
      leave_last();
      memory.second.wait(t);
      ptx::settle(ds);
      ptx::begin_products();
      multiply_transposed_async(ds, memory.own_second.at(0), first_row, memory.second.at(t));
      ptx::commit_products();
      const std::uint32_t kept = shape.dropout.threshold ? kept_queries<1, columns>(shape, row, queries.tile.head, queries.tile.query + pair, own_key) : 0;
      ptx::wait_for_products<1>();  // for the scores
      ptx::settle(s);
      if (!queries.tile.visible.see_all(key, warpgroup_rows)) hide_queries<1>(&s, [&](int n, int e) { return queries.range[8 * n + pair + e]; }, own_key);
#pragma unroll
      for (int n = 0; n < columns; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) s[n][e] = ptx::exp2_fast(s[n][e] * to_log2 - queries.log_sum[8 * n + pair + e % 2]);
      pack_kept<T>(p, s, shape.dropout, kept);
      ptx::wait_for_products<0>();  // for d probabilities
      ptx::settle(ds);
      ptx::settle(dv);
      ptx::begin_products();
      multiply_plain_async(dv, p, memory.second.at(t));
      ptx::commit_products();
      differentiate_kept(ds, s, shape.dropout, kept, [&](int n, int e) { return queries.delta[8 * n + pair + e % 2]; });
      pack_left<T>(left, ds);
      ptx::settle(dk);
      ptx::begin_products();
      multiply_plain_async(dk, left, memory.first.at(t));
      ptx::commit_products();
      memory.queries.leave(t);
      last = t;
    }
    ptx::wait_for_products<0>();
    ptx::settle(dv);
    ptx::settle(dk);
    leave_last();
    store_gradient(g, dk, row, own_key, first_head, 1, 0, shape.score_scale);
    store_gradient(g, dv, row, own_key, first_head, 2, 0, 1);
  }
}

}  // namespace golem::cuda
