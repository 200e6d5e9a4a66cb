// The backward of attention by tiles in shared memory, without matrix instructions: d query by blocks of queries, d key and d value by blocks of keys.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "golem/core/number.hpp"
#include "golem/cuda/attention_mask.cuh"
#include "golem/cuda/attention_shape.cuh"
#include "golem/cuda/attention_tiled.cuh"

namespace golem::cuda {

/// Elements of a head's gradients of outputs (N, H, D): those of its rows from `first` on, and zeros behind the row's end.
template <class T>
struct GradientRows {
  const T* rows;
  int step, count;

  __device__ GradientRows(const AttentionGradient<T>& g, std::int64_t start, int head, int first)
      : rows(g.dout + ((start + first) * g.shape.heads + head) * g.shape.dims), step(g.shape.heads * g.shape.dims), count(g.shape.length - first) {}
  __device__ accumulate_t<T> operator()(int i, int d) const { return i < count ? rows[i * step + d] : T{0}; }
};

/// d query: each lane differentiates the score of a key of the tile for 8 queries, then adds up dims of the keys.
template <class T, int HeadDim>
__global__ void __launch_bounds__(32 * tiled_warps, tiled_blocks<T>) attend_tiled_dquery_kernel(AttentionGradient<T> g) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  constexpr int R = HeadDim / 32;
  const AttentionShape<T>& shape = g.shape;
  const TiledBlock block(shape.length, FirstBlocks::last_queries);
  const TiledMemory<A> memory{shape.dims};
  const OwnRows<A> queries = memory.own(0), douts = memory.own(1);
  const LaneRows<A> keys = memory.lanes(2, 0), values = memory.lanes(2, 1);
  A* weights = memory.weights(2, 0);
  const std::int64_t own = (std::int64_t{block.row} * shape.heads + block.head) * shape.length;
  queries.load(shape.dims, HeadRows<0, T>(g.qkv, shape, block.start, block.head, block.first, shape.length));
  douts.load(shape.dims, GradientRows<T>(g, block.start, block.head, block.first));
  A sums[warp_rows][R]{};
  const TileKeys seen = g.tiles[block.row * shape.tiles() + block.first / tile_queries];
  for (int begin = seen.some_first; begin < seen.some_last; begin += lane_rows) {
    __syncthreads();  // all have read the tile before, and its weights
    keys.template load<R>(shape.dims, HeadRows<1, T>(g.qkv, shape, block.start, block.head, begin, seen.some_last));
    values.template load<R>(shape.dims, HeadRows<2, T>(g.qkv, shape, block.start, block.head, begin, seen.some_last));
    __syncthreads();
    A scores[warp_rows]{}, dps[warp_rows]{};
    add_products(scores, queries, keys, shape.dims);
    add_products(dps, douts, values, shape.dims);
    const int key = begin + ptx::lane();
#pragma unroll
    for (int i = 0; i < warp_rows; ++i) {
      const int query = block.own_first + i;
      A ds = 0;
      if (query < shape.length && g.ranges[block.start + query].sees(key)) {
        const A factor = shape.dropout.threshold ? shape.dropout.factor(shape.element(block.row, block.head, query, key)) : A{1};
        ds = Probability<A>(scores[i] * shape.score_scale, dps[i], g.log_sum[own + query], g.delta[own + query], factor).ds;
      }
      scores[i] = ds;
    }
    put_weights(weights, scores);
    __syncwarp();
    add_weighted(sums, weights, keys, shape.dims);
  }
#pragma unroll
  for (int i = 0; i < warp_rows; ++i)
    if (block.own_first + i < shape.length) store_dims(g.dqkv + shape.at(block.start + block.own_first + i, block.head, 0), sums[i], shape.dims, shape.scale);
}

/// d key and d value: each lane differentiates the score of a query of the tile for 8 keys, then adds up dims of the queries and of dout; one sharing head
/// after the other.
template <class T, int HeadDim>
__global__ void __launch_bounds__(32 * tiled_warps) attend_tiled_dkey_kernel(AttentionGradient<T> g) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  constexpr int R = HeadDim / 32;
  const AttentionShape<T>& shape = g.shape;
  const TiledBlock block(shape.length, FirstBlocks::first_keys);
  const TiledMemory<A> memory{shape.dims};
  const OwnRows<A> keys = memory.own(0), values = memory.own(1);
  const LaneRows<A> queries = memory.lanes(2, 0), douts = memory.lanes(2, 1);
  A *slopes = memory.weights(2, 0), *weights = memory.weights(2, 1);
  const int first_head = block.head * shape.sharers, tile_count = shape.tiles();
  keys.load(shape.dims, HeadRows<1, T>(g.qkv, shape, block.start, first_head, block.first, shape.length));
  values.load(shape.dims, HeadRows<2, T>(g.qkv, shape, block.start, first_head, block.first, shape.length));
  A dkey[warp_rows][R]{}, dvalue[warp_rows][R]{};
  for (int head = first_head; head < first_head + shape.sharers; ++head) {
    const std::int64_t own = (std::int64_t{block.row} * shape.heads + head) * shape.length;
    for (int begin = 0; begin < shape.length; begin += lane_rows) {
      if (!g.tiles[block.row * tile_count + begin / tile_queries].see_some(block.first, tiled_rows)) continue;
      __syncthreads();  // all have read the tile before, and its weights
      queries.template load<R>(shape.dims, HeadRows<0, T>(g.qkv, shape, block.start, head, begin, shape.length));
      douts.template load<R>(shape.dims, GradientRows<T>(g, block.start, head, begin));
      __syncthreads();
      A scores[warp_rows]{}, dps[warp_rows]{};
      add_products(scores, keys, queries, shape.dims);
      add_products(dps, values, douts, shape.dims);
      const int query = begin + ptx::lane();
      const bool here = query < shape.length;
      const KeyRange range = here ? g.ranges[block.start + query] : KeyRange{};
      const A log_sum = here ? g.log_sum[own + query] : A{0}, delta = here ? g.delta[own + query] : A{0};
#pragma unroll
      for (int k = 0; k < warp_rows; ++k) {
        const int key = block.own_first + k;
        A ds = 0, kept = 0;
        if (range.sees(key)) {
          const A factor = shape.dropout.threshold ? shape.dropout.factor(shape.element(block.row, head, query, key)) : A{1};
          const Probability<A> p(scores[k] * shape.score_scale, dps[k], log_sum, delta, factor);
          ds = p.ds, kept = p.kept;
        }
        scores[k] = ds, dps[k] = kept;
      }
      put_weights(slopes, scores);
      put_weights(weights, dps);
      __syncwarp();
      add_weighted(dkey, slopes, queries, shape.dims);
      add_weighted(dvalue, weights, douts, shape.dims);
    }
  }
#pragma unroll
  for (int k = 0; k < warp_rows; ++k)
    if (block.own_first + k < shape.length) {
      T* to = g.dqkv + shape.at(block.start + block.own_first + k, first_head, 1);
      store_dims(to, dkey[k], shape.dims, shape.score_scale);
      store_dims(to + shape.dims, dvalue[k], shape.dims);
    }
}

/// Starts the backward; false where it cannot run on this device.
template <int HeadDim, class T>
bool start_tiled_backward(Device& device, const AttentionGradient<T>& gradient) {
  const AttentionShape<T>& shape = gradient.shape;
  const TiledMemory<accumulate_t<T>> memory{shape.dims};
  const std::size_t query_bytes = memory.bytes(2, 1), key_bytes = memory.bytes(2, 2);
  if (!fits_tiles(device, shape, key_bytes)) return false;
  launch(device, tiled_launch("attend_tiled_dquery", shape, shape.heads, query_bytes), attend_tiled_dquery_kernel<T, HeadDim>, gradient);
  launch(device, tiled_launch("attend_tiled_dkey", shape, shape.key_heads(), key_bytes), attend_tiled_dkey_kernel<T, HeadDim>, gradient);
  return true;
}

}  // namespace golem::cuda
