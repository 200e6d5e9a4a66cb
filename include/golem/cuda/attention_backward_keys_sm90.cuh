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

/// What the scores of 64 queries need of each, as tiles of them pass by; filled by one warp.
template <int Stages>
struct PassingQueries {
  struct Queries {
    alignas(16) KeyRange range[passing_rows];
    float log_sum[passing_rows], delta[passing_rows];  // of base 2; dot products of dout and out
  };
  Queries data[Stages];
  ptx::PhaseBarrier full[Stages], empty[Stages];

  __device__ void init() {
    for (int i = 0; i < Stages; ++i) ptx::init_barrier(full[i], 32), ptx::init_barrier(empty[i], 4 * reading_warpgroups);
  }
  __device__ const Queries& at(int t) const { return data[t % Stages]; }
  /// The queries from `query` on, once their place is free. By one warp, for one t after the other.
  template <class T>
  __device__ void fill(int t, const AttentionGradient<T>& g, int row, int head, int query) {
    const int length = g.shape.length;
    const std::int64_t own = (std::int64_t{row} * g.shape.heads + head) * length;
    ptx::wait_for_phase(empty[t % Stages], (t / Stages + 1) % 2);
    for (int i = ptx::lane(); i < passing_rows; i += 32) {
      const bool there = query + i < length;
      data[t % Stages].range[i] = there ? g.ranges[std::int64_t{row} * length + query + i] : KeyRange{};
      data[t % Stages].log_sum[i] = there ? g.log_sum[own + query + i] * log2_e<float> : 0.0f;
      data[t % Stages].delta[i] = there ? g.delta[own + query + i] : 0.0f;
    }
    ptx::arrive(full[t % Stages]);
  }
  /// As of TileRing; but here lanes have read for themselves, and the first speaks for all.
  __device__ void wait(int t) { ptx::wait_for_phase(full[t % Stages], t / Stages % 2); }
  __device__ void leave(int t) {
    __syncwarp();
    if (ptx::lane() == 0) ptx::arrive(empty[t % Stages]);
  }
  __device__ void pass(int t) {
    wait(t);
    leave(t);
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
/// While the tensor cores multiply by a tile's dout, its scores become probabilities; while they sum up d key, the next tile's scores begin.
template <class T, int HeadDim>
__global__ void __launch_bounds__(128 * (1 + reading_warpgroups), 1) attend_dkey_sm90_kernel(const __grid_constant__ BackwardTensors tensors, AttentionGradient<T> g, BlockOrder order) {
  ptx::require_sm_90a();
  const AttentionShape<T>& shape = g.shape;
  auto& memory = aligned_shared<DkeyMemory<T, HeadDim>>();
  const BlockOrder::Place place = order.place(blockIdx.x, blockIdx.y, blockIdx.z);
  if (place.head >= order.heads) return;
  const int reader = warpgroup() - 1, lane = ptx::lane(), first_head = place.head * shape.sharers, row = place.row, block_key = place.block * block_rows, tile_count = ceil_div(shape.length, tile_queries);
  const TileKeys* tiles = g.tiles + std::int64_t{row} * tile_count;
  struct Tile {
    int sharer, number;  // of the heads; of its tiles of queries
  };
  /// The first tile from `q` on, head after head, that sees some of the block's keys; of no head where there is none.
  const auto next_seeing = [&](Tile q) {
    for (; q.sharer < shape.sharers; q = {q.sharer + 1, 0})
      for (; q.number < tile_count; ++q.number)
        if (tiles[q.number].see_some(block_key, block_rows)) return q;
    return q;
  };
  if (threadIdx.x == 0) memory.init();
  __syncthreads();
  if (reader < 0) {
    ptx::give_registers<fetching_registers>();
    const int warp = static_cast<int>(threadIdx.x) / 32;
    if (threadIdx.x == 0) {
      memory.own_first.fetch(0, tensors.qkv, shape.slot(first_head, 1), block_key, row);
      memory.own_second.fetch(0, tensors.qkv, shape.slot(first_head, 2), block_key, row);
    }
    Tile tile = next_seeing({0, 0});
    for (int t = 0; tile.sharer < shape.sharers; ++t, tile = next_seeing({tile.sharer, tile.number + 1})) {
      const int head = first_head + tile.sharer, query = tile.number * tile_queries;
      if (threadIdx.x == 0) {
        memory.first.fetch(t, tensors.queries, shape.slot(head, 0), query, row);
        memory.second.fetch(t, tensors.dout, head, query, row);
      }
      if (warp == 1) memory.queries.fill(t, g, row, head, query);
    }
  } else {
    ptx::take_registers<multiplying_registers>();
    constexpr int columns = passing_rows / 8;
    const int first_row = reader * warpgroup_rows, key = block_key + first_row, own_key = key + static_cast<int>(threadIdx.x) % 128 / 32 * 16 + lane / 4, pair = 2 * (lane % 4);
    const float to_log2 = shape.score_scale * log2_e<float>;
    float s[columns][4], ds[columns][4], dk[HeadDim / 8][4]{}, dv[HeadDim / 8][4]{};  // s, ds transposed: a row a key
    std::uint32_t left[columns / 2][4];
    int last = -1;  // the tile that products may still read
    memory.own_first.wait(0);
    memory.own_second.wait(0);
    Tile tile = next_seeing({0, 0});
    for (int t = 0; tile.sharer < shape.sharers; ++t, tile = next_seeing({tile.sharer, tile.number + 1})) {
      const TileKeys visible = tiles[tile.number];
      if (!visible.see_some(key, warpgroup_rows)) {
        ptx::wait_for_products<0>();
        if (last >= 0) memory.first.leave(last), memory.second.leave(last);
        last = -1;
        memory.first.pass(t), memory.second.pass(t), memory.queries.pass(t);
        continue;
      }
      const std::uint32_t kept = shape.dropout.threshold ? kept_queries<1, columns>(shape, row, first_head + tile.sharer, tile.number * tile_queries + pair, own_key) : 0;
      multiply_both_async<T, HeadDim>(s, ds, memory, first_row, t);
      memory.queries.wait(t);
      const auto& queries = memory.queries.at(t);
      ptx::wait_for_products<1>();  // for the scores, and for d value and d key before them
      ptx::settle(s);
      if (last >= 0) memory.first.leave(last), memory.second.leave(last);
      last = t;
      if (!visible.see_all(key, warpgroup_rows)) hide_queries<1>(&s, [&](int n, int e) { return queries.range[8 * n + pair + e]; }, own_key);
#pragma unroll
      for (int n = 0; n < columns; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) s[n][e] = ptx::exp2_fast(s[n][e] * to_log2 - queries.log_sum[8 * n + pair + e % 2]);
      pack_kept<T>(left, s, shape.dropout, kept);
      ptx::settle(dv);
      ptx::begin_products();
      multiply_plain_async(dv, left, memory.second.at(t));
      ptx::commit_products();
      ptx::wait_for_products<0>();  // for d value too: its sums in flight beside d scores would take more registers than there are
      ptx::settle(ds);
      differentiate_kept(ds, s, shape.dropout, kept, [&](int n, int e) { return queries.delta[8 * n + pair + e % 2]; });
      pack_left<T>(left, ds);
      ptx::settle(dk);
      ptx::begin_products();
      memory.queries.leave(t);
      multiply_plain_async(dk, left, memory.first.at(t));
      ptx::commit_products();
    }
    ptx::wait_for_products<0>();
    ptx::settle(dv);
    ptx::settle(dk);
    if (last >= 0) memory.first.leave(last), memory.second.leave(last);
    store_gradient(g, dk, row, own_key, first_head, 1, 0, shape.score_scale);
    store_gradient(g, dv, row, own_key, first_head, 2, 0, 1);
  }
}

}  // namespace golem::cuda
