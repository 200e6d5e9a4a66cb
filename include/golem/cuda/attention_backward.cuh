// The backward of attention by matrix instructions of sm_80: one kernel for d query, one for d key and d value, no sums by atomics.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "golem/cuda/attention_forward.cuh"
#include "golem/cuda/attention_mask.cuh"
#include "golem/cuda/attention_plain.cuh"
#include "golem/cuda/attention_tile.cuh"

namespace golem::cuda {

/// Queries of a tile when keys are a block's own: fewer, since the sums of two gradients are in registers.
inline constexpr int few_queries = 32;

/// Dims whose gradients a block sums up: blockIdx.x takes turns over the parts of a wide head.
template <int HeadDim>
inline constexpr int part_dims = HeadDim < 128 ? HeadDim : 128;

/// Stages of keys and values, in d query, and of queries, in d key: as many as fit the shared memory of sm_80.
template <int HeadDim>
inline constexpr int backward_stages = HeadDim > 128 ? 1 : 2;

template <class T, int HeadDim>
inline constexpr std::size_t dquery_bytes = sizeof(T) * HeadDim * (2 * tile_queries + 2 * backward_stages<HeadDim> * tile_keys);
template <class T, int HeadDim>
inline constexpr std::size_t dkey_bytes = sizeof(T) * HeadDim * (2 * tile_keys + 2 * backward_stages<HeadDim> * few_queries);

/// Which of 4 Columns probabilities dropout keeps, 4 n + e for c[n][e]. Drawn where few registers are in use: the draws are long code.
template <int Columns, class T, class QueryOf, class KeyOf>
__device__ std::uint32_t kept_of(const AttentionShape<T>& shape, int row, int head, const QueryOf& query_of, const KeyOf& key_of) {
  static_assert(4 * Columns <= 32, "golem: dropout keeps a bit for each score");
  if (!shape.dropout.threshold) return ~0u;
  std::uint32_t kept = 0;
#pragma unroll 1
  for (int i = 0; i < 4 * Columns; ++i) kept |= std::uint32_t{shape.dropout.factor(shape.element(row, head, query_of(i / 4, i % 4), key_of(i / 4, i % 4))) != 0} << i;
  return kept;
}

/// Which of 4 Columns pairs of a query and a key see each other, as kept_of; `all`: it is known that all do.
template <int Columns, class T, class QueryOf, class KeyOf>
__device__ std::uint32_t seen_of(const AttentionGradient<T>& g, int row, bool all, const QueryOf& query_of, const KeyOf& key_of) {
  if (all) return ~0u;
  const KeyRange* ranges = g.ranges + std::int64_t{row} * g.shape.length;
  std::uint32_t seen = 0;
#pragma unroll 1
  for (int i = 0; i < 4 * Columns; ++i) {
    const int query = query_of(i / 4, i % 4);
    if (query < g.shape.length && ranges[query].sees(key_of(i / 4, i % 4))) seen |= 1u << i;
  }
  return seen;
}

/// Scores and d probabilities become probabilities after dropout, and d scores. c[n][e] is of query `query_of(n, e)`; `seen` and `kept`
/// are from seen_of and kept_of.
template <class T, int Columns, class QueryOf>
__device__ void differentiate(float (&s)[Columns][4], float (&dp)[Columns][4], const AttentionGradient<T>& g, int row, int head, std::uint32_t seen, std::uint32_t kept, const QueryOf& query_of) {
  const AttentionShape<T>& shape = g.shape;
  const std::int64_t own = (std::int64_t{row} * shape.heads + head) * shape.length;
  const auto *log_sum = g.log_sum + own, *delta = g.delta + own;
#pragma unroll
  for (int n = 0; n < Columns; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (!(seen >> (4 * n + e) & 1)) {
        s[n][e] = dp[n][e] = 0;
        continue;
      }
      const int query = query_of(n, e);
      const float p = ptx::exp2_fast((s[n][e] * shape.score_scale - log_sum[query]) * log2_e);
      const float factor = kept >> (4 * n + e) & 1 ? shape.dropout.kept : 0.0f;
      s[n][e] = p * factor;
      dp[n][e] = p * (dp[n][e] * factor - delta[query]);
    }
}

/// d query of 64 queries of a head: a warp takes 16 of them, over all tiles of keys that they see.
template <class T, int HeadDim>
__global__ void __launch_bounds__(128) attend_dquery_kernel(AttentionGradient<T> g) {
  constexpr int columns = tile_keys / 8, part = part_dims<HeadDim>, parts = HeadDim / part, stages = backward_stages<HeadDim>;
  const AttentionShape<T>& shape = g.shape;
  T* memory = dynamic_shared<T>();
  const auto tile_at = [&](int rows_before) { return SharedTile<T, HeadDim>{memory + rows_before * HeadDim}; };
  const SharedTile<T, HeadDim> queries = tile_at(0), douts = tile_at(tile_queries);
  const int lane = ptx::lane(), warp_row = static_cast<int>(threadIdx.x / 32) * 16, head = static_cast<int>(blockIdx.y), row = static_cast<int>(blockIdx.z);
  const int tile_count = static_cast<int>(gridDim.x) / parts, tile = tile_count - 1 - static_cast<int>(blockIdx.x) / parts, query = tile * tile_queries;
  const int first_dim = static_cast<int>(blockIdx.x) % parts * part;
  const std::int64_t start = std::int64_t{row} * shape.length, step = shape.token_step(), out_step = std::int64_t{shape.heads} * shape.dims;
  const TileKeys visible = g.tiles[std::int64_t{row} * tile_count + tile];
  const T* keys = g.qkv + shape.at(start, head, 1);
  const auto keys_at = [&](int stage) { return tile_at(2 * tile_queries + 2 * stage * tile_keys); };
  const auto values_at = [&](int stage) { return tile_at(2 * tile_queries + (2 * stage + 1) * tile_keys); };
  const auto load_keys = [&](int stage, int key) {
    const int valid = visible.some_last - key;
    load_tile(keys_at(stage), keys + key * step, step, tile_keys, valid, shape.dims);
    load_tile(values_at(stage), keys + shape.dims + key * step, step, tile_keys, valid, shape.dims);
  };
  load_tile(queries, g.qkv + shape.at(start + query, head, 0), step, tile_queries, shape.length - query, shape.dims);
  load_tile(douts, g.dout + (start + query) * out_step + std::int64_t{head} * shape.dims, out_step, tile_queries, shape.length - query, shape.dims);
  ptx::commit_copies();
  if (visible.some_first < visible.some_last) load_keys(0, visible.some_first);
  ptx::commit_copies();
  ptx::wait_for_copies<1>();
  scale_tile(queries, tile_queries, shape.query_scale);

  const auto query_of = [&](int, int e) { return query + warp_row + lane / 4 + e / 2 * 8; };
  float dq[part / 8][4]{};
  int stage = 0;
  for (int key = visible.some_first; key < visible.some_last; key += tile_keys) {
    const int next = key + tile_keys;
    if (stages > 1 && next < visible.some_last) load_keys(stage ^ 1, next);
    ptx::commit_copies();
    ptx::wait_for_copies<stages - 1>();
    __syncthreads();
    const auto key_of = [&](int n, int e) { return key + 8 * n + 2 * (lane % 4) + e % 2; };
    const std::uint32_t seen = seen_of<columns>(g, row, visible.see_all(key, tile_keys) && query + tile_queries <= shape.length, query_of, key_of);
    const std::uint32_t kept = kept_of<columns>(shape, row, head, query_of, key_of);
    float s[columns][4]{}, ds[columns][4]{};
    multiply_transposed(s, queries, warp_row, keys_at(stage), shape.dims);
    multiply_transposed(ds, douts, warp_row, values_at(stage), shape.dims);
    differentiate(s, ds, g, row, head, seen, kept, query_of);
    std::uint32_t left[columns / 2][4];
    pack_left<T>(left, ds);
    multiply_plain(dq, left, keys_at(stage), first_dim, shape.dims);
    __syncthreads();
    if (stages > 1) stage ^= 1;
    else if (next < visible.some_last) load_keys(0, next);
  }
  ptx::wait_for_copies<0>();
  T* to[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int own = query_of(0, 2 * half);
    to[half] = own < shape.length ? g.dqkv + shape.at(start + own, head, 0) + first_dim : nullptr;
  }
  store_product(to[0], to[1], dq, shape.scale, shape.scale, shape.dims - first_dim);
}

/// d key and d value of 64 keys of a head: a warp takes 16 of them, over all tiles of 32 queries that see some of the 64.
template <class T, int HeadDim>
__global__ void __launch_bounds__(128) attend_dkey_kernel(AttentionGradient<T> g) {
  constexpr int columns = few_queries / 8, part = part_dims<HeadDim>, parts = HeadDim / part, stages = backward_stages<HeadDim>;
  const AttentionShape<T>& shape = g.shape;
  T* memory = dynamic_shared<T>();
  const auto tile_at = [&](int rows_before) { return SharedTile<T, HeadDim>{memory + rows_before * HeadDim}; };
  const SharedTile<T, HeadDim> keys = tile_at(0), values = tile_at(tile_keys);
  const int lane = ptx::lane(), warp_row = static_cast<int>(threadIdx.x / 32) * 16, head = static_cast<int>(blockIdx.y), row = static_cast<int>(blockIdx.z);
  const int tile_count = static_cast<int>(gridDim.x) / parts, key = static_cast<int>(blockIdx.x) / parts * tile_keys, first_dim = static_cast<int>(blockIdx.x) % parts * part;
  const std::int64_t start = std::int64_t{row} * shape.length, step = shape.token_step(), out_step = std::int64_t{shape.heads} * shape.dims;
  const TileKeys* tiles = g.tiles + std::int64_t{row} * tile_count;
  const auto queries_at = [&](int stage) { return tile_at(2 * tile_keys + 2 * stage * few_queries); };
  const auto douts_at = [&](int stage) { return tile_at(2 * tile_keys + (2 * stage + 1) * few_queries); };
  const auto load_queries = [&](int stage, int query) {
    load_tile(queries_at(stage), g.qkv + shape.at(start + query, head, 0), step, few_queries, shape.length - query, shape.dims);
    load_tile(douts_at(stage), g.dout + (start + query) * out_step + std::int64_t{head} * shape.dims, out_step, few_queries, shape.length - query, shape.dims);
  };
  /// The first tile of queries from `query` on that sees some of the keys; the length where there is none.
  const auto next_seeing = [&](int query) {
    while (query < shape.length && !tiles[query / tile_queries].see_some(key, tile_keys)) query = (query / tile_queries + 1) * tile_queries;
    return query < shape.length ? query : shape.length;
  };
  load_tile(keys, g.qkv + shape.at(start + key, head, 1), step, tile_keys, shape.length - key, shape.dims);
  load_tile(values, g.qkv + shape.at(start + key, head, 2), step, tile_keys, shape.length - key, shape.dims);
  int query = next_seeing(0), stage = 0;
  if (query < shape.length) load_queries(0, query);
  ptx::commit_copies();

  const auto key_of = [&](int, int e) { return key + warp_row + lane / 4 + e / 2 * 8; };
  float dk[part / 8][4]{}, dv[part / 8][4]{};
  while (query < shape.length) {
    const int next = next_seeing(query + few_queries);
    if (stages > 1 && next < shape.length) load_queries(stage ^ 1, next);
    ptx::commit_copies();
    ptx::wait_for_copies<stages - 1>();
    scale_tile(queries_at(stage), few_queries, shape.query_scale);
    __syncthreads();
    const auto query_of = [&](int n, int e) { return query + 8 * n + 2 * (lane % 4) + e % 2; };
    const std::uint32_t seen = seen_of<columns>(g, row, tiles[query / tile_queries].see_all(key, tile_keys) && query + few_queries <= shape.length, query_of, key_of);
    const std::uint32_t kept = kept_of<columns>(shape, row, head, query_of, key_of);
    float s[columns][4]{}, ds[columns][4]{};  // transposed: a row a key
    multiply_transposed(s, keys, warp_row, queries_at(stage), shape.dims);
    multiply_transposed(ds, values, warp_row, douts_at(stage), shape.dims);
    differentiate(s, ds, g, row, head, seen, kept, query_of);
    std::uint32_t left[columns / 2][4];
    pack_left<T>(left, s);
    multiply_plain(dv, left, douts_at(stage), first_dim, shape.dims);
    pack_left<T>(left, ds);
    multiply_plain(dk, left, queries_at(stage), first_dim, shape.dims);
    __syncthreads();
    if (stages > 1) stage ^= 1;
    else if (next < shape.length) load_queries(0, next);
    query = next;
  }
  ptx::wait_for_copies<0>();
  T* to[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int own = key_of(0, 2 * half);
    to[half] = own < shape.length ? g.dqkv + shape.at(start + own, head, 1) + first_dim : nullptr;
  }
  store_product(to[0], to[1], dk, shape.score_scale, shape.score_scale, shape.dims - first_dim);
  for (T*& row_of : to)
    if (row_of) row_of += shape.dims;
  store_product(to[0], to[1], dv, 1, 1, shape.dims - first_dim);
}

/// Starts the backward of sm_80; false where it cannot run on this device.
template <int HeadDim, class T>
bool start_backward(sm_80, Device& device, const AttentionGradient<T>& gradient) {
  constexpr std::size_t query_bytes = dquery_bytes<T, HeadDim>, key_bytes = dkey_bytes<T, HeadDim>;
  const AttentionShape<T>& shape = gradient.shape;
  if (!has_matrix_path<T>(device, shape.dims, larger(query_bytes, key_bytes))) return false;
  const std::int64_t blocks = ceil_div(shape.length, tile_queries) * (HeadDim / part_dims<HeadDim>);
  const Launch dquery{.name = "attend_dquery", .blocks = blocks, .threads = 128, .shared_bytes = query_bytes, .blocks_y = shape.heads, .blocks_z = shape.rows};
  const Launch dkey{.name = "attend_dkey", .blocks = blocks, .threads = 128, .shared_bytes = key_bytes, .blocks_y = shape.heads, .blocks_z = shape.rows};
  launch(device, dquery, attend_dquery_kernel<T, HeadDim>, gradient);
  launch(device, dkey, attend_dkey_kernel<T, HeadDim>, gradient);
  return true;
}

}  // namespace golem::cuda
