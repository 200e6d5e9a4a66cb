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

/// A block's shared memory: what is its own, of queries and dout or of keys and values, and what passes by, of the other two.
template <class T, int HeadDim>
struct BackwardMemory {
  using Passing = BoxTile<T, passing_rows, HeadDim>;
  TileRing<BoxTile<T, block_rows, HeadDim>, 1> own_first, own_second;
  TileRing<Passing, 3> first, second;

  __device__ void init() {
    own_first.init(), own_second.init(), first.init(), second.init();
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

/// The two products that every tile begins with: a first (64, passing_rows) of rows of own_first with tile t of `first`, and likewise of the second.
template <class T, int HeadDim>
__device__ void multiply_both(float (&a)[passing_rows / 8][4], float (&b)[passing_rows / 8][4], BackwardMemory<T, HeadDim>& memory, int first_row, int t) {
  memory.first.wait(t);
  memory.second.wait(t);
  ptx::settle(a);
  ptx::settle(b);
  ptx::begin_products();
  multiply_transposed_async(a, memory.own_first.at(0), first_row, memory.first.at(t));
  multiply_transposed_async(b, memory.own_second.at(0), first_row, memory.second.at(t));
  ptx::commit_products();
  ptx::wait_for_products<0>();
  ptx::settle(a);
  ptx::settle(b);
}

/// As attend_dquery_kernel: a block takes block_rows queries of a head, and keys and values pass by.
template <class T, int HeadDim>
__global__ void __launch_bounds__(128 * (1 + reading_warpgroups), 1) attend_dquery_sm90_kernel(const __grid_constant__ BackwardTensors tensors, AttentionGradient<T> g) {
  const AttentionShape<T>& shape = g.shape;
  auto& memory = aligned_shared<BackwardMemory<T, HeadDim>>();
  const int reader = static_cast<int>(threadIdx.x) / 128 - 1, lane = ptx::lane(), head = static_cast<int>(blockIdx.y), row = static_cast<int>(blockIdx.z);
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
    const int first_row = reader * warpgroup_rows, own_query = query + first_row + static_cast<int>(threadIdx.x) % 128 / 32 * 16 + lane / 4;
    const TileKeys own_keys = reader ? visible[1] : visible[0];
    const KeyTiles tiles(visible[0], visible[1], own_keys, passing_rows);
    const auto query_of = [&](int, int e) { return own_query + e / 2 * 8; };
    float s[passing_rows / 8][4], ds[passing_rows / 8][4], dq[HeadDim / 8][4]{};
    std::uint32_t left[passing_rows / 16][4];
    memory.own_first.wait(0);
    memory.own_second.wait(0);
    for (int t = 0; t < tiles.count; ++t) {
      if (t < tiles.first_seen || t >= tiles.end_seen) {
        memory.first.pass(t), memory.second.pass(t);
        continue;
      }
      const int key = tiles.first_key + t * passing_rows;
      const auto key_of = [&](int n, int e) { return key + 8 * n + 2 * (lane % 4) + e % 2; };
      const std::uint32_t seen = seen_of<passing_rows / 8>(g, row, own_keys.see_all(key, passing_rows) && query + block_rows <= shape.length, query_of, key_of);
      const std::uint32_t kept = kept_of<passing_rows / 8>(shape, row, head, query_of, key_of);
      multiply_both(s, ds, memory, first_row, t);
      memory.second.leave(t);
      differentiate(s, ds, g, row, head, seen, kept, query_of);
      pack_left<T>(left, ds);
      ptx::settle(dq);
      ptx::begin_products();
      multiply_plain_async(dq, left, memory.first.at(t));
      ptx::commit_products();
      ptx::wait_for_products<0>();
      ptx::settle(dq);
      memory.first.leave(t);
    }
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
template <class T, int HeadDim>
__global__ void __launch_bounds__(128 * (1 + reading_warpgroups), 1) attend_dkey_sm90_kernel(const __grid_constant__ BackwardTensors tensors, AttentionGradient<T> g) {
  const AttentionShape<T>& shape = g.shape;
  auto& memory = aligned_shared<BackwardMemory<T, HeadDim>>();
  const int reader = static_cast<int>(threadIdx.x) / 128 - 1, lane = ptx::lane(), head = static_cast<int>(blockIdx.y), row = static_cast<int>(blockIdx.z);
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
    if (threadIdx.x != 0) return;
    memory.own_first.fetch(0, tensors.qkv, 3 * head + 1, block_key, row);
    memory.own_second.fetch(0, tensors.qkv, 3 * head + 2, block_key, row);
    for (int t = 0, tile = next_seeing(0); tile < tile_count; ++t, tile = next_seeing(tile + 1)) {
      memory.first.fetch(t, tensors.queries, head, tile * tile_queries, row);
      memory.second.fetch(t, tensors.dout, head, tile * tile_queries, row);
    }
  } else {
    ptx::take_registers<multiplying_registers>();
    const int first_row = reader * warpgroup_rows, key = block_key + first_row, own_key = key + static_cast<int>(threadIdx.x) % 128 / 32 * 16 + lane / 4;
    const auto key_of = [&](int, int e) { return own_key + e / 2 * 8; };
    float s[passing_rows / 8][4], ds[passing_rows / 8][4], dk[HeadDim / 8][4]{}, dv[HeadDim / 8][4]{};  // s, ds transposed: a row a key
    std::uint32_t left[passing_rows / 16][4], left_of_dk[passing_rows / 16][4];
    memory.own_first.wait(0);
    memory.own_second.wait(0);
    for (int t = 0, tile = next_seeing(0); tile < tile_count; ++t, tile = next_seeing(tile + 1)) {
      const TileKeys visible = tiles[tile];
      if (!visible.see_some(key, warpgroup_rows)) {
        memory.first.pass(t), memory.second.pass(t);
        continue;
      }
      const auto query_of = [&](int n, int e) { return tile * tile_queries + 8 * n + 2 * (lane % 4) + e % 2; };
      const std::uint32_t seen = seen_of<passing_rows / 8>(g, row, visible.see_all(key, warpgroup_rows) && (tile + 1) * tile_queries <= shape.length, query_of, key_of);
      const std::uint32_t kept = kept_of<passing_rows / 8>(shape, row, head, query_of, key_of);
      multiply_both(s, ds, memory, first_row, t);
      differentiate(s, ds, g, row, head, seen, kept, query_of);
      pack_left<T>(left, s);
      pack_left<T>(left_of_dk, ds);
      ptx::settle(dv);
      ptx::settle(dk);
      ptx::begin_products();
      multiply_plain_async(dv, left, memory.second.at(t));
      multiply_plain_async(dk, left_of_dk, memory.first.at(t));
      ptx::commit_products();
      ptx::wait_for_products<0>();
      ptx::settle(dv);
      ptx::settle(dk);
      memory.first.leave(t), memory.second.leave(t);
    }
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
  return sizeof(T) == 2 && dims <= most_sm90_dims && device.attention() == AttentionPath::wgmma && device.compute_capability() == 90;
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
