// The backward of attention by matrix instructions of sm_80, behind d key and d value: d query, and no sums by atomics.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "golem/core/math.hpp"
#include "golem/cuda/attention_backward_keys.cuh"
#include "golem/cuda/attention_forward.cuh"
#include "golem/cuda/attention_mask.cuh"
#include "golem/cuda/attention_shape.cuh"
#include "golem/cuda/attention_softmax.cuh"
#include "golem/cuda/attention_tile.cuh"

namespace golem::cuda {

/// In d query: keys of a tile, so that scores, their gradients and the sums fit in registers.
template <int HeadDim>
inline constexpr int passing_keys = HeadDim > 64 ? 32 : 64;

/// Its bytes of shared memory, with so many tiles of keys and of values.
template <class T, int HeadDim>
constexpr std::size_t dquery_bytes(int stages) {
  return sizeof(T) * HeadDim * static_cast<std::size_t>(2 * block_queries<HeadDim> + 2 * stages * passing_keys<HeadDim>);
}

/// Queries, scaled and rounded as the forward's, into where d query will be. A thread takes 8 elements.
template <class T>
__global__ void __launch_bounds__(256) place_scaled_queries_kernel(T* dqkv, const T* qkv, AttentionShape<T> shape) {
  ptx::begin_kernel();
  const int chunks = shape.dims / 8;
  const std::int64_t count = std::int64_t{shape.rows} * shape.length * shape.heads * chunks;
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    const std::int64_t head = i / chunks, slot = shape.sharers == 1 ? 3 * head : head + head / shape.sharers * 2;  // a GPU divides 64 bits in a hundred instructions
    const std::int64_t place = slot * shape.dims + i % chunks * 8;
    float x[8];
    load(x, qkv + place);
#pragma unroll
    for (int w = 0; w < 8; ++w) x[w] *= shape.query_scale;
    store(dqkv + place, x);
  }
}

template <class T>
void place_scaled_queries(Device& device, const AttentionGradient<T>& gradient) {
  const AttentionShape<T>& shape = gradient.shape;
  const std::int64_t chunks = std::int64_t{shape.rows} * shape.length * shape.heads * (shape.dims / 8);
  launch(device, {.name = "place_scaled_queries", .early = true, .blocks = blocks_for(device, chunks, 256)}, place_scaled_queries_kernel<T>, gradient.dqkv, gradient.qkv, shape);
}

/// d query of block_queries of a head, over all tiles of keys that they see. Where d query will be, scaled queries are: these are read first.
/// `stages`: tiles of keys and values that there is memory for, 1 or 2.
template <class T, int HeadDim>
__global__ void __launch_bounds__(matrix_threads, matrix_blocks<HeadDim>) attend_dquery_kernel(AttentionGradient<T> g, int stages, BlockOrder order) {
  ptx::begin_kernel();
  constexpr int fragments = warp_fragments<HeadDim>, keys = passing_keys<HeadDim>, columns = keys / 8, rows = block_queries<HeadDim>;
  const AttentionShape<T>& shape = g.shape;
  const SharedTile<T, HeadDim> queries{dynamic_shared<T>()}, douts = queries.from_row(rows), passing = queries.from_row(2 * rows);
  const BlockOrder::Place place = order.place(blockIdx.x, blockIdx.y, blockIdx.z);
  if (place.head >= order.heads) return;
  const int warp_row = static_cast<int>(threadIdx.x / 32) * 16 * fragments, head = place.head, row = place.row, query = (order.blocks - 1 - place.block) * rows;
  const int own = query + warp_row + ptx::lane() / 4, pair = 2 * (ptx::lane() % 4);
  const std::int64_t start = std::int64_t{row} * shape.length;
  const int step = static_cast<int>(shape.token_step()), out_step = shape.heads * shape.dims;
  const auto range_of = [&](int i) { return g.ranges[start + smaller(i, shape.length - 1)]; };
  const BlockKeys<HeadDim> visible(g.tiles, row, shape.length, query, warp_row);
  const T* from = g.dqkv + shape.at(start + query, head, 0) + own_chunk<HeadDim>(step);
  load_tile<rows>(queries, from, step, shape.length - query, shape.dims);
  load_tile<rows>(douts, g.dout + (start + query) * out_step + std::int64_t{head} * shape.dims + own_chunk<HeadDim>(out_step), out_step, shape.length - query, shape.dims);
  from = g.qkv + shape.at(start + visible.first, head, 1) + own_chunk<HeadDim>(step);
  const auto load_keys = [&](int stage, int key) {
    load_tile<keys>(passing.from_row(2 * stage * keys), from, step, visible.last - key, shape.dims);
    load_tile<keys>(passing.from_row((2 * stage + 1) * keys), from + shape.dims, step, visible.last - key, shape.dims);
  };
  if (visible.first < visible.last) load_keys(0, visible.first);
  ptx::commit_copies();

  float log2_sum[fragments][2], delta[fragments][2], dq[fragments][HeadDim / 8][4]{};
  const float to_log2 = shape.score_scale * log2_e<float>;
#pragma unroll
  for (int f = 0; f < fragments; ++f)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = own + 16 * f + 8 * half;
      const std::int64_t at = (std::int64_t{row} * shape.heads + head) * shape.length + i;
      log2_sum[f][half] = i < shape.length ? g.log_sum[at] * log2_e<float> : INFINITY;
      delta[f][half] = i < shape.length ? g.delta[at] : 0.0f;
    }
  int stage = 0;
  for (int key = visible.first; key < visible.last; key += keys) {
    const TileKeys seen = *visible.own;
    const bool more = key + keys < visible.last, all_seen = seen.see_all(key, keys);
    ptx::wait_for_copies<0>();
    __syncthreads();
    from += keys * step;
    if (stages > 1 && more) load_keys(stage ^ 1, key + keys);
    ptx::commit_copies();
    if (seen.see_some(key, keys)) {
      const SharedTile<T, HeadDim> keys_here = passing.from_row(2 * stage * keys), values_here = keys_here.from_row(keys);
      const std::uint64_t kept = shape.dropout.threshold ? kept_keys<fragments, columns>(shape, row, head, own, key + pair) : 0;
      float s[fragments][columns][4]{}, ds[fragments][columns][4]{};
      multiply_transposed(s, queries.from_row(warp_row), keys_here);
      multiply_transposed(ds, douts.from_row(warp_row), values_here);
      if (!all_seen) {
#pragma unroll
        for (int f = 0; f < fragments; ++f) hide_keys(s[f], {range_of(own + 16 * f), range_of(own + 16 * f + 8)}, key + pair);
      }
      const auto differentiate_all = [&](const auto& factor_of) {
#pragma unroll
        for (int f = 0; f < fragments; ++f)
#pragma unroll
          for (int n = 0; n < columns; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) differentiate_pair(s[f][n][e], ds[f][n][e], to_log2, log2_sum[f][e / 2], delta[f][e / 2], factor_of(4 * (columns * f + n) + e));
      };
      if (shape.dropout.threshold) differentiate_all([&](int i) { return kept >> i & 1 ? shape.dropout.kept : 0.0f; });
      else differentiate_all([](int) { return 1.0f; });
      std::uint32_t left[fragments][columns / 2][4];
#pragma unroll
      for (int f = 0; f < fragments; ++f) pack_left<T>(left[f], ds[f]);
      multiply_plain(dq, left, keys_here);
    }
    if (stages > 1) {
      stage ^= 1;
    } else {
      __syncthreads();
      if (more) load_keys(0, key + keys);
      ptx::commit_copies();
    }
  }
  ptx::wait_for_copies<0>();
  __syncthreads();  // all have read the queries
#pragma unroll
  for (int f = 0; f < fragments; ++f) store_gradient(g, dq[f], row, own + 16 * f, head, 0, 0, shape.scale);
}

/// Starts the backward of sm_80; false where it cannot run on this device.
template <int HeadDim, class T>
bool start_backward(sm_80, Device& device, const AttentionGradient<T>& gradient) {
  using Block = DkeyBlock<T, HeadDim>;
  const AttentionShape<T>& shape = gradient.shape;
  /// One only where that lets more blocks run on a multiprocessor; of its memory each block takes 1 KiB more than it asks for.
  const auto stages_of = [&](const auto& bytes) {
    const auto blocks = [&](int stages) { return smaller<std::size_t>(matrix_blocks<HeadDim>, (device.shared_bytes() + 1024) / (bytes(stages) + 1024)); };
    return blocks(2) < blocks(1) ? 1 : 2;
  };
  const int query_stages = stages_of([](int stages) { return dquery_bytes<T, HeadDim>(stages); }), key_stages = stages_of([](int stages) { return Block::bytes(stages); });
  const std::size_t query_bytes = dquery_bytes<T, HeadDim>(query_stages), key_bytes = Block::bytes(key_stages);
  if (!has_matrix_path<T>(device, shape.dims, larger(query_bytes, key_bytes))) return false;
  place_scaled_queries(device, gradient);
  const BlockOrder by_key = order_blocks(device, shape, ceil_div(shape.length, Block::keys) * Block::parts, shape.key_heads(), shape.heads);
  const BlockOrder by_query = order_blocks(device, shape, ceil_div(shape.length, block_queries<HeadDim>), shape.heads, shape.key_heads());
  launch(device, in_order("attend_dkey", by_key, shape.rows, matrix_threads, key_bytes), attend_dkey_kernel<T, HeadDim>, gradient, key_stages, by_key);
  launch(device, in_order("attend_dquery", by_query, shape.rows, matrix_threads, query_bytes), attend_dquery_kernel<T, HeadDim>, gradient, query_stages, by_query);
  return true;
}

}  // namespace golem::cuda
