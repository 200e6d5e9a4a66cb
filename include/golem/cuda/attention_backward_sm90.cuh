// The backward of attention on sm_90a, behind d key and d value: d query, by a warpgroup that fetches keys and values and two that multiply.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "golem/core/math.hpp"
#include "golem/cuda/architecture.hpp"
#include "golem/cuda/attention_backward.cuh"
#include "golem/cuda/attention_backward_keys_sm90.cuh"
#include "golem/cuda/attention_backward_tiles_sm90.cuh"
#include "golem/cuda/attention_forward.cuh"
#include "golem/cuda/attention_mask.cuh"
#include "golem/cuda/attention_shape.cuh"
#include "golem/cuda/attention_softmax.cuh"
#include "golem/cuda/attention_tile.cuh"
#include "golem/cuda/box_tile.cuh"
#include "golem/cuda/tile_ring.cuh"

namespace golem::cuda {

/// As attend_dquery_kernel: a block takes block_rows queries of a head, and keys and values pass by. While the tensor cores multiply
/// dout by a tile's values, its scores become probabilities; while they sum up d query, the next tile's scores begin.
template <class T, int HeadDim>
__global__ void __launch_bounds__(128 * (1 + reading_warpgroups), 1) attend_dquery_sm90_kernel(const __grid_constant__ BackwardTensors tensors, AttentionGradient<T> g, BlockOrder order) {
  ptx::begin_kernel();
  ptx::require_sm_90a();
  const AttentionShape<T>& shape = g.shape;
  auto& memory = aligned_shared<BackwardMemory<T, HeadDim>>();
  const BlockOrder::Place place = order.place(blockIdx.x, blockIdx.y, blockIdx.z);
  if (place.head >= order.heads) return;
  const int reader = warpgroup() - 1, lane = ptx::lane(), head = place.head, row = place.row, query = (order.blocks - 1 - place.block) * block_rows, tile = query / tile_queries, tile_count = ceil_div(shape.length, tile_queries);
  const TileKeys visible[reading_warpgroups]{visible_of(g.tiles, row, tile, tile_count), visible_of(g.tiles, row, tile + 1, tile_count)};
  if (threadIdx.x == 0) memory.init();
  __syncthreads();
  if (reader < 0) {
    ptx::give_registers<fetching_registers>();
    if (threadIdx.x != 0) return;
    const KeyTiles tiles(visible[0], visible[1], {}, passing_rows);
    memory.own_first.fetch(0, tensors.queries, shape.slot(head, 0), query, row);
    memory.own_second.fetch(0, tensors.dout, head, query, row);
    for (int t = 0; t < tiles.count; ++t) {
      memory.first.fetch(t, tensors.qkv, shape.slot(head, 1), tiles.first_key + t * passing_rows, row);
      memory.second.fetch(t, tensors.qkv, shape.slot(head, 2), tiles.first_key + t * passing_rows, row);
    }
  } else {
    ptx::take_registers<multiplying_registers>();
    constexpr int columns = passing_rows / 8;
    const int first_row = reader * warpgroup_rows, own_query = query + first_row + static_cast<int>(threadIdx.x) % 128 / 32 * 16 + lane / 4, pair = 2 * (lane % 4);
    const TileKeys own_keys = reader ? visible[1] : visible[0];
    const KeyTiles tiles(visible[0], visible[1], own_keys, passing_rows);
    KeyRange range[2];
    float log_sum[2]{}, delta[2]{};
#pragma unroll
    for (int half = 0; half < 2; ++half)
      if (const int own = own_query + 8 * half; own < shape.length) {
        const std::int64_t at = (std::int64_t{row} * shape.heads + head) * shape.length + own;
        range[half] = g.ranges[std::int64_t{row} * shape.length + own], log_sum[half] = g.log_sum[at] * log2_e<float>, delta[half] = g.delta[at];
      }
    const float to_log2 = shape.score_scale * log2_e<float>;
    float s[columns][4], ds[columns][4], dq[HeadDim / 8][4]{};
    std::uint32_t left[columns / 2][4];
    memory.own_first.wait(0);
    memory.own_second.wait(0);
    for (int t = 0; t < tiles.first_seen; ++t) memory.first.pass(t), memory.second.pass(t);
    for (int t = tiles.first_seen; t < tiles.end_seen; ++t) {
      const int key = tiles.first_key + t * passing_rows;
      const std::uint32_t kept = shape.dropout.threshold ? static_cast<std::uint32_t>(kept_keys<1, columns>(shape, row, head, own_query, key + pair)) : 0;
      multiply_both_async(s, ds, memory, first_row, t);
      ptx::wait_for_products<1>();  // for the scores, and for d query before them
      ptx::settle(s);
      if (t > tiles.first_seen) memory.first.leave(t - 1);
      if (!own_keys.see_all(key, passing_rows)) hide_keys(s, range, key + pair);
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
    store_gradient(g, dq, row, own_query, head, 0, 0, shape.scale);
  }
}

/// Starts the backward of sm_90a; false where it was not asked for, or cannot run on this device.
template <int HeadDim, class T>
bool start_backward(sm_90a, Device& device, const AttentionGradient<T>& gradient) {
  constexpr std::size_t query_bytes = sizeof(BackwardMemory<T, HeadDim>) + box_alignment, key_bytes = sizeof(DkeyMemory<T, HeadDim>) + box_alignment;
  const AttentionShape<T>& shape = gradient.shape;
  if (!has_matrix_path<T>(device, shape.dims, larger(query_bytes, key_bytes)) || !takes_sm_90a(device, "attend_dkey_sm90", attend_dkey_sm90_kernel<T, HeadDim>)) return false;
  place_scaled_queries(device, gradient);
  const BackwardTensors tensors{.qkv = describe_for_tiles(gradient.qkv, shape.rows, shape.length, shape.slots, shape.dims),
                                .queries = describe_for_tiles(static_cast<const T*>(gradient.dqkv), shape.rows, shape.length, shape.slots, shape.dims),
                                .dout = describe_for_tiles(gradient.dout, shape.rows, shape.length, shape.heads, shape.dims)};
  const std::int64_t blocks = ceil_div(shape.length, block_rows);
  const BlockOrder by_key = order_blocks(device, shape, blocks, shape.key_heads(), shape.heads), by_query = order_blocks(device, shape, blocks, shape.heads, shape.key_heads());
  constexpr int threads = 128 * (1 + reading_warpgroups);
  launch(device, in_order("attend_dkey_sm90", by_key, shape.rows, threads, key_bytes), attend_dkey_sm90_kernel<T, HeadDim>, tensors, gradient, by_key);
  launch(device, in_order("attend_dquery_sm90", by_query, shape.rows, threads, query_bytes), attend_dquery_sm90_kernel<T, HeadDim>, tensors, gradient, by_query);  // writes where the scaled queries were
  return true;
}

}  // namespace golem::cuda
