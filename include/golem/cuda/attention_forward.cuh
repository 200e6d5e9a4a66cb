// The forward of attention by matrix instructions of sm_80: 32 queries a warp, online softmax in fp32 over tiles of 64 keys.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "golem/core/math.hpp"
#include "golem/cuda/architecture.hpp"
#include "golem/cuda/attention_mask.cuh"
#include "golem/cuda/attention_order.cuh"
#include "golem/cuda/attention_shape.cuh"
#include "golem/cuda/attention_softmax.cuh"
#include "golem/cuda/attention_tile.cuh"

namespace golem::cuda {

/// Whether the kernels of matrix instructions take heads of `dims` dims of T, with `shared_bytes` of shared memory a block.
template <class T>
bool has_matrix_path(const Device& device, std::int64_t dims, std::size_t shared_bytes) {
  return sizeof(T) == 2 && dims % 16 == 0 && dims <= most_head_dims && device.compute_capability() >= 80 && shared_bytes <= device.shared_bytes();
}

/// Fragments of 16 rows of a warp: two, so that what is loaded of the other side of a product is used twice, where registers allow.
template <int HeadDim>
inline constexpr int warp_fragments = HeadDim > 128 ? 1 : 2;

/// Blocks of a multiprocessor: one multiplies while the other is in its softmax.
template <int HeadDim>
inline constexpr int matrix_blocks = HeadDim > 128 ? 1 : 2;

/// Queries of a block of four warps, and keys of a tile.
template <int HeadDim>
inline constexpr int block_queries = 64 * warp_fragments<HeadDim>;
inline constexpr int tile_keys = 64;

/// Bytes of shared memory: queries, and three places that tiles of keys and of values take in turn.
template <class T, int HeadDim>
inline constexpr std::size_t forward_bytes = sizeof(T) * HeadDim * (block_queries<HeadDim> + 3 * tile_keys);

/// What the queries of a block see, and those of one of its warps.
template <int HeadDim>
struct BlockKeys {
  const TileKeys* own;  // of the warp: read where it is used, for registers are few
  int first = 0x7fffffff, last = 0;

  __device__ BlockKeys(const TileKeys* tiles, int row, int length, int query, int warp_row) {
    const int count = ceil_div(length, tile_queries), tile = query / tile_queries;
    tiles += std::int64_t{row} * count;
    own = tiles + smaller(tile + warp_row / tile_queries, count - 1);  // behind the row's end results are of no account
#pragma unroll
    for (int i = 0; i < block_queries<HeadDim> / tile_queries; ++i)
      if (tile + i < count) first = smaller(first, tiles[tile + i].some_first), last = larger(last, tiles[tile + i].some_last);
  }
};

/// out (N, H, D) and log_sum (B, H, T), unless null, from qkv (N, G, S + 2, D). A block takes block_queries of a head, each of its warps a
/// quarter of them. Tiles arrive in the order in which they are used, keys then values, each two ahead.
template <class T, int HeadDim>
__global__ void __launch_bounds__(matrix_threads, matrix_blocks<HeadDim>)
    attend_kernel(T* out, float* log_sum, const T* qkv, const KeyRange* ranges, const TileKeys* tiles, AttentionShape<T> shape, BlockOrder order) {
  ptx::begin_kernel();
  constexpr int fragments = warp_fragments<HeadDim>, columns = tile_keys / 8;
  const SharedTile<T, HeadDim> queries{dynamic_shared<T>()}, places = queries.from_row(block_queries<HeadDim>);
  const BlockOrder::Place place = order.place(blockIdx.x, blockIdx.y, blockIdx.z);
  if (place.head >= order.heads) return;
  const int warp_row = static_cast<int>(threadIdx.x / 32) * 16 * fragments, head = place.head, row = place.row, query = (order.blocks - 1 - place.block) * block_queries<HeadDim>;  // which see the more keys the later they are
  const int own = query + warp_row + ptx::lane() / 4, pair = 2 * (ptx::lane() % 4);  // this lane's first query, and first key of a tile
  const std::int64_t start = std::int64_t{row} * shape.length;
  const int step = static_cast<int>(shape.token_step());
  const auto range_of = [&](int i) { return ranges[start + smaller(i, shape.length - 1)]; };
  const BlockKeys<HeadDim> visible(tiles, row, shape.length, query, warp_row);
  const T* from = qkv + shape.at(start + query, head, 0) + own_chunk<HeadDim>(step);
  const auto load_part = [&](int place, int part, int key) {
    load_tile<tile_keys>(places.from_row(place * tile_keys), from + part * shape.dims, step, visible.last - key, shape.dims);
  };
  load_tile<block_queries<HeadDim>>(queries, from, step, shape.length - query, shape.dims);
  ptx::commit_copies();
  from = qkv + shape.at(start + visible.first, head, 1) + own_chunk<HeadDim>(step);
  if (visible.first < visible.last) load_part(0, 0, visible.first);
  ptx::commit_copies();
  if (visible.first < visible.last) load_part(1, 1, visible.first);
  ptx::commit_copies();
  ptx::wait_for_copies<2>();
  scale_tile<block_queries<HeadDim>>(queries, shape.query_scale);

  OnlineSoftmax softmax[fragments];
  float o[fragments][HeadDim / 8][4]{};
  int key_place = 0;  // of three, in which tiles follow each other
  for (int key = visible.first; key < visible.last; key += tile_keys) {
    const int value_place = key_place == 2 ? 0 : key_place + 1, free_place = key_place == 0 ? 2 : key_place - 1;
    const TileKeys keys = *visible.own;
    const bool more = key + tile_keys < visible.last, seen = keys.see_some(key, tile_keys), all_seen = keys.see_all(key, tile_keys);
    std::uint32_t p[fragments][columns / 2][4];
    ptx::wait_for_copies<1>();
    __syncthreads();
    from += tile_keys * step;
    if (more) load_part(free_place, 0, key + tile_keys);
    ptx::commit_copies();
    if (seen) {
      const std::uint64_t kept = shape.dropout.threshold ? kept_keys<fragments, columns>(shape, row, head, own, key + pair) : 0;
      float s[fragments][columns][4]{};
      multiply_transposed(s, queries.from_row(warp_row), places.from_row(key_place * tile_keys));
      if (!all_seen) {
#pragma unroll
        for (int f = 0; f < fragments; ++f) hide_keys(s[f], {range_of(own + 16 * f), range_of(own + 16 * f + 8)}, key + pair);
      }
#pragma unroll
      for (int f = 0; f < fragments; ++f) {
        float rescale[2];
        softmax[f].meet(s[f], rescale, shape.score_scale);
#pragma unroll
        for (int n = 0; n < HeadDim / 8; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) o[f][n][e] *= rescale[e / 2];
      }
      if (shape.dropout.threshold) {
#pragma unroll
        for (int i = 0; i < 4 * fragments * columns; ++i) s[i / (4 * columns)][i / 4 % columns][i % 4] *= kept >> i & 1 ? shape.dropout.kept : 0.0f;
      }
#pragma unroll
      for (int f = 0; f < fragments; ++f) pack_left<T>(p[f], s[f]);
    }
    ptx::wait_for_copies<1>();
    __syncthreads();
    if (more) load_part(key_place, 1, key + tile_keys);
    ptx::commit_copies();
    if (seen) multiply_plain(o, p, places.from_row(value_place * tile_keys));
    key_place = free_place;
  }
  ptx::wait_for_copies<0>();

#pragma unroll
  for (int f = 0; f < fragments; ++f) {
    const int both[2]{own + 16 * f, own + 16 * f + 8};
    store_attended(out, log_sum, o[f], softmax[f], both, row, head, shape);
  }
}

/// What a forward of attention writes and reads.
template <class T>
struct AttentionCall {
  T* out;
  float* log_sum;
  View<const T, 4> qkv;
  const Visible& visible;
  AttentionShape<T> shape;
};

/// Starts the forward of sm_80; false where it cannot run on this device.
template <int HeadDim, class T>
bool start_forward(sm_80, Device& device, const AttentionCall<T>& call) {
  constexpr std::size_t bytes = forward_bytes<T, HeadDim>;
  if (!has_matrix_path<T>(device, call.shape.dims, bytes)) return false;
  const BlockOrder order = order_blocks(device, call.shape, ceil_div(call.shape.length, block_queries<HeadDim>), call.shape.heads, call.shape.key_heads());
  launch(device, in_order("attend", order, call.shape.rows, matrix_threads, bytes), attend_kernel<T, HeadDim>, call.out, call.log_sum, call.qkv.data, call.visible.ranges.data, call.visible.tiles.data,
         call.shape, order);
  return true;
}

}  // namespace golem::cuda
