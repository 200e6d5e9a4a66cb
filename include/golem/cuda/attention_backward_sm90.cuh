// The backward of attention on sm_90a: one kernel for d query, one for d key and d value, each of a warpgroup that fetches and two that multiply.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "golem/core/math.hpp"
#include "golem/cuda/architecture.hpp"
#include "golem/cuda/attention_backward.cuh"
#include "golem/cuda/attention_forward.cuh"
#include "golem/cuda/attention_forward_sm90.cuh"
#include "golem/cuda/attention_mask.cuh"
#include "golem/cuda/attention_plain.cuh"
#include "golem/cuda/attention_tile.cuh"
#include "golem/cuda/box_tile.cuh"
#include "golem/cuda/tile_ring.cuh"

namespace golem::cuda {

/// Rows of the tiles that pass by: of keys, in d query, and of queries, in d key.
inline constexpr int passing_rows = 64;

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
      data[t % Stages].log_sum[i] = there ? g.log_sum[own + query + i] * log2_e : 0.0f;
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

/// A block's shared memory: what is its own, of queries and dout or of keys and values, and what passes by, of the other two.
template <class T, int HeadDim>
struct BackwardMemory {
  static constexpr int stages = 3;
  using Passing = BoxTile<T, passing_rows, HeadDim>;
  TileRing<BoxTile<T, block_rows, HeadDim>, 1> own_first, own_second;
  TileRing<Passing, stages> first, second;
  PassingQueries<stages> queries;  // in d key alone

  __device__ void init() {
    own_first.init(), own_second.init(), first.init(), second.init(), queries.init();
    ptx::show_shared_writes();
  }
  static constexpr std::size_t bytes() { return sizeof(BackwardMemory) + box_alignment; }
};

/// Where the three tensors that are fetched lie: qkv (B, T, 3 H, D), scaled queries and dout (B, T, H, D).
struct BackwardTensors {
  CUtensorMap qkv, queries, dout;
};

/// scaled (N, H, D): the queries of qkv (N, H, 3, D), scaled and rounded as the forward's. A thread takes 8 elements.
template <class T>
__global__ void __launch_bounds__(256) scale_queries_kernel(T* scaled, const T* qkv, AttentionShape<T> shape) {
  const int chunks = shape.dims / 8;
  const std::int64_t count = std::int64_t{shape.rows} * shape.length * shape.heads * chunks;
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    const std::int64_t head_token = i / chunks, at = i % chunks * 8;
    float x[8];
    load(x, qkv + 3 * head_token * shape.dims + at);
#pragma unroll
    for (int w = 0; w < 8; ++w) x[w] *= shape.query_scale;
    store(scaled + head_token * shape.dims + at, x);
  }
}

/// Asks for the two products that a tile begins with, each in a group of its own: a first (64, passing_rows) of rows of own_first with
/// tile t of `first`, and likewise of the second.
template <class T, int HeadDim>
__device__ void multiply_both_async(float (&a)[passing_rows / 8][4], float (&b)[passing_rows / 8][4], BackwardMemory<T, HeadDim>& memory, int first_row, int t) {
  memory.first.wait(t);
  ptx::settle(a);
  ptx::settle(b);
  ptx::begin_products();
  multiply_transposed_async(a, memory.own_first.at(0), first_row, memory.first.at(t));
  ptx::commit_products();
  memory.second.wait(t);
  ptx::begin_products();
  multiply_transposed_async(b, memory.own_second.at(0), first_row, memory.second.at(t));
  ptx::commit_products();
}

/// s (64, 8 Columns) of probabilities as the left side of a product, those that dropout keeps grown.
template <class T, int Columns>
__device__ void pack_kept(std::uint32_t (&left)[Columns / 2][4], const float (&s)[Columns][4], const ProbabilityDropout<float>& dropout, std::uint32_t kept) {
  if (!dropout.threshold) return pack_left<T>(left, s);
  const auto grown = [&](int n, int e) { return kept >> (4 * n + e) & 1 ? s[n][e] * dropout.kept : 0.0f; };
#pragma unroll
  for (int n = 0; n < Columns; ++n)
#pragma unroll
    for (int half = 0; half < 2; ++half) left[n / 2][n % 2 * 2 + half] = ptx::pack<T>(grown(n, 2 * half), grown(n, 2 * half + 1));
}

/// d scores, from d probabilities behind dropout and the probabilities before it; c[n][e] is of a query whose dot product of dout and
/// out is delta_of(n, e).
template <int Columns, class DeltaOf>
__device__ void differentiate_kept(float (&ds)[Columns][4], const float (&p)[Columns][4], const ProbabilityDropout<float>& dropout, std::uint32_t kept, const DeltaOf& delta_of) {
  if (dropout.threshold) {
#pragma unroll
    for (int n = 0; n < Columns; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) ds[n][e] *= kept >> (4 * n + e) & 1 ? dropout.kept : 0.0f;
  }
#pragma unroll
  for (int n = 0; n < Columns; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) ds[n][e] = p[n][e] * (ds[n][e] - delta_of(n, e));
}

/// As attend_dquery_kernel: a block takes block_rows queries of a head, and keys and values pass by. While the tensor cores multiply
/// dout by a tile's values, its scores become probabilities; while they sum up d query, the next tile's scores begin.
template <class T, int HeadDim>
__global__ void __launch_bounds__(128 * (1 + reading_warpgroups), 1) attend_dquery_sm90_kernel(const __grid_constant__ BackwardTensors tensors, AttentionGradient<T> g) {
  const AttentionShape<T>& shape = g.shape;
  auto& memory = aligned_shared<BackwardMemory<T, HeadDim>>();
  const int reader = warpgroup() - 1, lane = ptx::lane(), head = static_cast<int>(blockIdx.y), row = static_cast<int>(blockIdx.z);
  const int query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * block_rows;  // long ones first
  const int tile = query / tile_queries, tile_count = ceil_div(shape.length, tile_queries);
  const TileKeys visible[reading_warpgroups]{visible_of(g.tiles, row, tile, tile_count), visible_of(g.tiles, row, tile + 1, tile_count)};
  if (threadIdx.x == 0) memory.init();
  __syncthreads();
  if (reader < 0) {
    ptx::give_registers<fetching_registers>();
    if (threadIdx.x != 0) return;
    const KeyTiles tiles(visible[0], visible[1], {}, passing_rows);
    memory.own_first.fetch(0, tensors.queries, head, query, row);
    memory.own_second.fetch(0, tensors.dout, head, query, row);
    for (int t = 0; t < tiles.count; ++t) {
      memory.first.fetch(t, tensors.qkv, 3 * head + 1, tiles.first_key + t * passing_rows, row);
      memory.second.fetch(t, tensors.qkv, 3 * head + 2, tiles.first_key + t * passing_rows, row);
    }
  } else {
    ptx::take_registers<multiplying_registers>();
    constexpr int columns = passing_rows / 8;
    const int first_row = reader * warpgroup_rows, own_query = query + first_row + static_cast<int>(threadIdx.x) % 128 / 32 * 16 + lane / 4;
    const TileKeys own_keys = reader ? visible[1] : visible[0];
    const KeyTiles tiles(visible[0], visible[1], own_keys, passing_rows);
    const auto query_of = [&](int, int e) { return own_query + e / 2 * 8; };
    KeyRange range[2];
    float log_sum[2]{}, delta[2]{};
#pragma unroll
    for (int half = 0; half < 2; ++half)
      if (const int own = query_of(0, 2 * half); own < shape.length) {
        const std::int64_t at = (std::int64_t{row} * shape.heads + head) * shape.length + own;
        range[half] = g.ranges[std::int64_t{row} * shape.length + own], log_sum[half] = g.log_sum[at] * log2_e, delta[half] = g.delta[at];
      }
    const float to_log2 = shape.score_scale * log2_e;
    float s[columns][4], ds[columns][4], dq[HeadDim / 8][4]{};
    std::uint32_t left[columns / 2][4];
    memory.own_first.wait(0);
    memory.own_second.wait(0);
    for (int t = 0; t < tiles.first_seen; ++t) memory.first.pass(t), memory.second.pass(t);
    for (int t = tiles.first_seen; t < tiles.end_seen; ++t) {
      const int key = tiles.first_key + t * passing_rows;
      const auto key_of = [&](int n, int e) { return key + 8 * n + 2 * (lane % 4) + e % 2; };
      const std::uint32_t kept = kept_of<columns>(shape, row, head, query_of, key_of);
      multiply_both_async(s, ds, memory, first_row, t);
      ptx::wait_for_products<1>();  // for the scores, and for d query before them
      ptx::settle(s);
      if (t > tiles.first_seen) memory.first.leave(t - 1);
      if (!own_keys.see_all(key, passing_rows)) {
#pragma unroll
        for (int n = 0; n < columns; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e)
            if (!range[e / 2].sees(key_of(n, e))) s[n][e] = -INFINITY;
      }
#pragma unroll
      for (int n = 0; n < columns; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) s[n][e] = ptx::exp2_fast(s[n][e] * to_log2 - log_sum[e / 2]);
      ptx::wait_for_products<0>();
      ptx::settle(ds);
      memory.second.leave(t);
      differentiate_kept(ds, s, shape.dropout, kept, [&](int, int e) { return delta[e / 2]; });
      pack_left<T>(left, ds);
      ptx::settle(dq);
      ptx::begin_products();
      multiply_plain_async(dq, left, memory.first.at(t));
      ptx::commit_products();
    }
    ptx::wait_for_products<0>();
    ptx::settle(dq);
    if (tiles.first_seen < tiles.end_seen) memory.first.leave(tiles.end_seen - 1);
    for (int t = tiles.end_seen; t < tiles.count; ++t) memory.first.pass(t), memory.second.pass(t);
    T* to[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int own = query_of(0, 2 * half);
      to[half] = own < shape.length ? g.dqkv + shape.at(std::int64_t{row} * shape.length + own, head, 0) : nullptr;
    }
    store_product(to[0], to[1], dq, shape.scale, shape.scale, shape.dims);
  }
}

/// As attend_dkey_kernel: a block takes block_rows keys of a head, and tiles of queries that see some of them pass by, with their dout.
/// While the tensor cores multiply by a tile's dout, its scores become probabilities; while they sum up d key, the next tile's scores begin.
template <class T, int HeadDim>
__global__ void __launch_bounds__(128 * (1 + reading_warpgroups), 1) attend_dkey_sm90_kernel(const __grid_constant__ BackwardTensors tensors, AttentionGradient<T> g) {
  const AttentionShape<T>& shape = g.shape;
  auto& memory = aligned_shared<BackwardMemory<T, HeadDim>>();
  const int reader = warpgroup() - 1, lane = ptx::lane(), head = static_cast<int>(blockIdx.y), row = static_cast<int>(blockIdx.z);
  const int block_key = static_cast<int>(blockIdx.x) * block_rows, tile_count = ceil_div(shape.length, tile_queries);
  const TileKeys* tiles = g.tiles + std::int64_t{row} * tile_count;
  /// The first tile of queries from number `tile` on that sees some of the block's keys; their count where there is none.
  const auto next_seeing = [&](int tile) {
    while (tile < tile_count && !tiles[tile].see_some(block_key, block_rows)) ++tile;
    return tile;
  };
  if (threadIdx.x == 0) memory.init();
  __syncthreads();
  if (reader < 0) {
    ptx::give_registers<fetching_registers>();
    const int warp = static_cast<int>(threadIdx.x) / 32;
    if (threadIdx.x == 0) {
      memory.own_first.fetch(0, tensors.qkv, 3 * head + 1, block_key, row);
      memory.own_second.fetch(0, tensors.qkv, 3 * head + 2, block_key, row);
    }
    for (int t = 0, tile = next_seeing(0); tile < tile_count; ++t, tile = next_seeing(tile + 1)) {
      if (threadIdx.x == 0) {
        memory.first.fetch(t, tensors.queries, head, tile * tile_queries, row);
        memory.second.fetch(t, tensors.dout, head, tile * tile_queries, row);
      }
      if (warp == 1) memory.queries.fill(t, g, row, head, tile * tile_queries);
    }
  } else {
    ptx::take_registers<multiplying_registers>();
    constexpr int columns = passing_rows / 8;
    const int first_row = reader * warpgroup_rows, key = block_key + first_row, own_key = key + static_cast<int>(threadIdx.x) % 128 / 32 * 16 + lane / 4, pair = 2 * (lane % 4);
    const auto key_of = [&](int, int e) { return own_key + e / 2 * 8; };
    const float to_log2 = shape.score_scale * log2_e;
    float s[columns][4], ds[columns][4], dk[HeadDim / 8][4]{}, dv[HeadDim / 8][4]{};  // s, ds transposed: a row a key
    std::uint32_t left[columns / 2][4];
    int last = -1;  // the tile that products may still read
    memory.own_first.wait(0);
    memory.own_second.wait(0);
    for (int t = 0, tile = next_seeing(0); tile < tile_count; ++t, tile = next_seeing(tile + 1)) {
      const TileKeys visible = tiles[tile];
      if (!visible.see_some(key, warpgroup_rows)) {
        ptx::wait_for_products<0>();
        if (last >= 0) memory.first.leave(last), memory.second.leave(last);
        last = -1;
        memory.first.pass(t), memory.second.pass(t), memory.queries.pass(t);
        continue;
      }
      const auto query_of = [&](int n, int e) { return tile * tile_queries + 8 * n + pair + e % 2; };
      const std::uint32_t kept = kept_of<columns>(shape, row, head, query_of, key_of);
      multiply_both_async(s, ds, memory, first_row, t);
      memory.queries.wait(t);
      const auto& queries = memory.queries.at(t);
      ptx::wait_for_products<1>();  // for the scores, and for d value and d key before them
      ptx::settle(s);
      if (last >= 0) memory.first.leave(last), memory.second.leave(last);
      last = t;
      if (!visible.see_all(key, warpgroup_rows)) {
#pragma unroll
        for (int n = 0; n < columns; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e)
            if (!queries.range[8 * n + pair + e % 2].sees(key_of(n, e))) s[n][e] = -INFINITY;
      }
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
    T* to[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int own = key_of(0, 2 * half);
      to[half] = own < shape.length ? g.dqkv + shape.at(std::int64_t{row} * shape.length + own, head, 1) : nullptr;
    }
    store_product(to[0], to[1], dk, shape.score_scale, shape.score_scale, shape.dims);
    for (T*& row_of : to)
      if (row_of) row_of += shape.dims;
    store_product(to[0], to[1], dv, 1, 1, shape.dims);
  }
}

/// Whether a backward on this device is to have memory for scaled queries.
template <class T>
bool may_run_sm_90a(const Device& device, std::int64_t dims) {
  return sizeof(T) == 2 && dims <= most_sm90_dims && device.attention() != AttentionPath::mma && device.compute_capability() == 90;
}

/// Starts the backward of sm_90a, with `scaled` (N, H, D) for what is between its kernels; false where it was not asked for, or cannot run on this device.
template <int HeadDim, class T>
bool start_backward(sm_90a, Device& device, const AttentionGradient<T>& gradient, View<T, 1> scaled) {
  constexpr std::size_t bytes = BackwardMemory<T, HeadDim>::bytes();
  const AttentionShape<T>& shape = gradient.shape;
  if (scaled.size() == 0 || !has_matrix_path<T>(device, shape.dims, bytes) || !takes_sm_90a(device, "attend_dkey_sm90", attend_dkey_sm90_kernel<T, HeadDim>)) return false;
  const std::int64_t chunks = scaled.size() / 8;
  launch(device, {.name = "scale_queries", .blocks = blocks_for(device, chunks, 256), .threads = 256}, scale_queries_kernel<T>, scaled.data, gradient.qkv, shape);
  const BackwardTensors tensors{.qkv = describe_for_tiles(gradient.qkv, shape.rows, shape.length, 3 * shape.heads, shape.dims),
                                .queries = describe_for_tiles(static_cast<const T*>(scaled.data), shape.rows, shape.length, shape.heads, shape.dims),
                                .dout = describe_for_tiles(gradient.dout, shape.rows, shape.length, shape.heads, shape.dims)};
  const auto how = [&](std::string_view name) {
    return Launch{.name = name, .blocks = ceil_div(shape.length, block_rows), .threads = 128 * (1 + reading_warpgroups), .shared_bytes = bytes, .blocks_y = shape.heads, .blocks_z = shape.rows};
  };
  launch(device, how("attend_dquery_sm90"), attend_dquery_sm90_kernel<T, HeadDim>, tensors, gradient);
  launch(device, how("attend_dkey_sm90"), attend_dkey_sm90_kernel<T, HeadDim>, tensors, gradient);
  return true;
}

}  // namespace golem::cuda
