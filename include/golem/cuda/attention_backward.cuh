// The backward of attention by matrix instructions of sm_80: one kernel for d query, one for d key and d value, no sums by atomics.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "golem/core/math.hpp"
#include "golem/cuda/attention_forward.cuh"
#include "golem/cuda/attention_mask.cuh"
#include "golem/cuda/attention_plain.cuh"
#include "golem/cuda/attention_tile.cuh"

namespace golem::cuda {

/// In d query: keys of a tile, so that scores, their gradients and the sums fit in registers.
template <int HeadDim>
inline constexpr int passing_keys = HeadDim > 64 ? 32 : 64;

template <class T, int HeadDim>
inline constexpr std::size_t dquery_bytes = sizeof(T) * HeadDim * (2 * block_queries<HeadDim> + 4 * passing_keys<HeadDim>);

/// In d key, a warp sums 64 dims of the gradients of 32 keys. Where heads are wider two warps share the keys: each makes the
/// probabilities for half of the queries of a tile, both read all of them. blockIdx.x takes turns over the parts of a still wider head.
template <class T, int HeadDim>
struct DkeyBlock {
  static constexpr int warp_dims = 64, warp_keys = 32, warp_queries = 32, fragments = warp_keys / 16, columns = warp_queries / 8, steps = warp_queries / 16;
  static constexpr int sharers = HeadDim > 64 ? 2 : 1, parts = HeadDim / (sharers * warp_dims);
  static constexpr int keys = matrix_threads / 32 / sharers * warp_keys, queries = sharers * warp_queries, stages = HeadDim > 128 ? 1 : 2;
  using Tile = SharedTile<T, HeadDim>;
  using Left = std::uint32_t[fragments][steps][4];

  /// Of each warp, the left sides of d value and of d key, as its lanes hold them.
  struct alignas(16) Shared {
    std::uint32_t left[matrix_threads / 32][2][fragments][steps][32][4];
  };
  static constexpr std::size_t tile_bytes = sizeof(T) * HeadDim * (2 * keys + 2 * stages * queries), bytes = tile_bytes + sizeof(float) * 4 * queries + (sharers > 1 ? sizeof(Shared) : 0);
  T* memory;

  __device__ Tile own(int part) const { return Tile{memory}.from_row(part * keys); }
  /// Of a stage: queries, and dout.
  __device__ Tile passing(int stage, int part) const { return Tile{memory}.from_row(2 * keys + (2 * stage + part) * queries); }
  /// Of one of two turns: log2 of the softmax's sum for each query, then the deltas.
  __device__ float* sums(int turn) const { return reinterpret_cast<float*>(reinterpret_cast<unsigned char*>(memory) + tile_bytes) + turn * 2 * queries; }
  __device__ Shared& shared() const { return *reinterpret_cast<Shared*>(sums(2)); }

  __device__ void share(const Left& left, int warp, int part) const {
#pragma unroll
    for (int f = 0; f < fragments; ++f)
#pragma unroll
      for (int j = 0; j < steps; ++j) *reinterpret_cast<Pack<std::uint32_t, 4>*>(shared().left[warp][part][f][j][ptx::lane()]) = {{left[f][j][0], left[f][j][1], left[f][j][2], left[f][j][3]}};
  }
  __device__ void take(Left& left, int warp, int part) const {
#pragma unroll
    for (int f = 0; f < fragments; ++f)
#pragma unroll
      for (int j = 0; j < steps; ++j) {
        const auto pack = *reinterpret_cast<const Pack<std::uint32_t, 4>*>(shared().left[warp][part][f][j][ptx::lane()]);
#pragma unroll
        for (int i = 0; i < 4; ++i) left[f][j][i] = pack.element[i];
      }
  }
};

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

/// Queries, scaled and rounded as the forward's, into where d query will be. A thread takes 8 elements.
template <class T>
__global__ void __launch_bounds__(256) place_scaled_queries_kernel(T* dqkv, const T* qkv, AttentionShape<T> shape) {
  const int chunks = shape.dims / 8;
  const std::int64_t count = std::int64_t{shape.rows} * shape.length * shape.heads * chunks;
  for (std::int64_t i = first_item(); i < count; i += item_step()) {
    const std::int64_t place = i / chunks * 3 * shape.dims + i % chunks * 8;
    float x[8];
    load(x, qkv + place);
#pragma unroll
    for (int w = 0; w < 8; ++w) x[w] *= shape.query_scale;
    store(dqkv + place, x);
  }
}

/// As `differentiate`, of one pair: `log2_sum` is the log-sum-exp times log2_e, infinite where there is no query. A score of -infinity is of a hidden pair.
__device__ inline void differentiate_pair(float& s, float& dp, float to_log2, float log2_sum, float delta, float factor) {
  const float p = ptx::exp2_fast(s * to_log2 - log2_sum);
  s = p * factor;
  dp = p * (dp * factor - delta);
}

/// d query of block_queries of a head, over all tiles of keys that they see. Where d query will be, scaled queries are: these are read first.
template <class T, int HeadDim>
__global__ void __launch_bounds__(matrix_threads, matrix_blocks<HeadDim>) attend_dquery_kernel(AttentionGradient<T> g) {
  constexpr int fragments = warp_fragments<HeadDim>, keys = passing_keys<HeadDim>, columns = keys / 8, rows = block_queries<HeadDim>;
  const AttentionShape<T>& shape = g.shape;
  const SharedTile<T, HeadDim> queries{dynamic_shared<T>()}, douts = queries.from_row(rows), stages = queries.from_row(2 * rows);
  const int warp_row = static_cast<int>(threadIdx.x / 32) * 16 * fragments, head = static_cast<int>(blockIdx.y), row = static_cast<int>(blockIdx.z);
  const int query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * rows;
  const int own = query + warp_row + ptx::lane() / 4, pair = 2 * (ptx::lane() % 4);
  const std::int64_t start = std::int64_t{row} * shape.length;
  const int step = static_cast<int>(shape.token_step()), out_step = shape.heads * shape.dims;
  const BlockKeys<HeadDim> visible(g.tiles, row, shape.length, query, warp_row);
  const T* from = g.dqkv + shape.at(start + query, head, 0) + own_chunk<HeadDim>(step);
  load_tile<rows>(queries, from, step, shape.length - query, shape.dims);
  load_tile<rows>(douts, g.dout + (start + query) * out_step + std::int64_t{head} * shape.dims + own_chunk<HeadDim>(out_step), out_step, shape.length - query, shape.dims);
  from = g.qkv + shape.at(start + visible.first, head, 1) + own_chunk<HeadDim>(step);
  const auto load_keys = [&](int stage, int key) {
    load_tile<keys>(stages.from_row(2 * stage * keys), from, step, visible.last - key, shape.dims);
    load_tile<keys>(stages.from_row((2 * stage + 1) * keys), from + shape.dims, step, visible.last - key, shape.dims);
  };
  if (visible.first < visible.last) load_keys(0, visible.first);
  ptx::commit_copies();

  float log2_sum[fragments][2], delta[fragments][2], dq[fragments][HeadDim / 8][4]{};
  const float to_log2 = shape.score_scale * log2_e;
#pragma unroll
  for (int f = 0; f < fragments; ++f)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = own + 16 * f + 8 * half;
      const std::int64_t at = (std::int64_t{row} * shape.heads + head) * shape.length + i;
      log2_sum[f][half] = i < shape.length ? g.log_sum[at] * log2_e : INFINITY;
      delta[f][half] = i < shape.length ? g.delta[at] : 0.0f;
    }
  int stage = 0;
  for (int key = visible.first; key < visible.last; key += keys, stage ^= 1) {
    const TileKeys seen = *visible.own;
    const bool all_seen = seen.see_all(key, keys);
    ptx::wait_for_copies<0>();
    __syncthreads();
    from += keys * step;
    if (key + keys < visible.last) load_keys(stage ^ 1, key + keys);
    ptx::commit_copies();
    if (!seen.see_some(key, keys)) continue;
    const SharedTile<T, HeadDim> keys_here = stages.from_row(2 * stage * keys), values_here = keys_here.from_row(keys);
    const std::uint64_t kept = shape.dropout.threshold ? kept_keys<fragments, columns>(shape, row, head, own, key + pair) : 0;
    float s[fragments][columns][4]{}, ds[fragments][columns][4]{};
    multiply_transposed(s, queries.from_row(warp_row), keys_here);
    multiply_transposed(ds, douts.from_row(warp_row), values_here);
    if (!all_seen) {
#pragma unroll
      for (int f = 0; f < fragments; ++f) hide_keys(s[f], g.ranges + start, own + 16 * f, shape.length, key + pair);
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
  ptx::wait_for_copies<0>();
  __syncthreads();  // all have read the queries
#pragma unroll
  for (int f = 0; f < fragments; ++f) {
    T* to[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = own + 16 * f + 8 * half;
      to[half] = i < shape.length ? g.dqkv + shape.at(start + i, head, 0) : nullptr;
    }
    store_product(to[0], to[1], dq[f], shape.scale, shape.scale, shape.dims);
  }
}

/// d key and d value of DkeyBlock::keys of a head, over all tiles of queries that see some of them; scaled queries are where d query will be.
template <class T, int HeadDim>
__global__ void __launch_bounds__(matrix_threads, matrix_blocks<HeadDim>) attend_dkey_kernel(AttentionGradient<T> g) {
  using Block = DkeyBlock<T, HeadDim>;
  constexpr int fragments = Block::fragments, columns = Block::columns, stages = Block::stages;
  const AttentionShape<T>& shape = g.shape;
  const Block block{dynamic_shared<T>()};
  const int warp = static_cast<int>(threadIdx.x / 32), group = warp / Block::sharers, share = warp % Block::sharers, head = static_cast<int>(blockIdx.y), row = static_cast<int>(blockIdx.z);
  const int block_key = static_cast<int>(blockIdx.x) / Block::parts * Block::keys, group_row = group * Block::warp_keys, own = block_key + group_row + ptx::lane() / 4;
  const int dim = (static_cast<int>(blockIdx.x) % Block::parts * Block::sharers + share) * Block::warp_dims, pair = share * Block::warp_queries + 2 * (ptx::lane() % 4);
  const std::int64_t start = std::int64_t{row} * shape.length;
  const int step = static_cast<int>(shape.token_step()), out_step = shape.heads * shape.dims;
  const TileKeys* tiles = g.tiles + std::int64_t{row} * ceil_div(shape.length, tile_queries);
  const T *queries_from = g.dqkv + shape.at(start, head, 0) + own_chunk<HeadDim>(step), *douts_from = g.dout + start * out_step + std::int64_t{head} * shape.dims + own_chunk<HeadDim>(out_step);
  const auto load_queries = [&](int stage, int query) {
    load_tile<Block::queries>(block.passing(stage, 0), queries_from + std::int64_t{query} * step, step, shape.length - query, shape.dims);
    load_tile<Block::queries>(block.passing(stage, 1), douts_from + std::int64_t{query} * out_step, out_step, shape.length - query, shape.dims);
  };
  /// This thread's part of Block::sums.
  const auto sum_of = [&](int query) {
    const int i = static_cast<int>(threadIdx.x), at = query + i % Block::queries;
    const std::int64_t first = (std::int64_t{row} * shape.heads + head) * shape.length;
    if (i >= 2 * Block::queries) return 0.0f;
    if (i < Block::queries) return at < shape.length ? g.log_sum[first + at] * log2_e : INFINITY;
    return at < shape.length ? g.delta[first + at] : 0.0f;
  };
  const auto keep_sum = [&](int turn, float sum) {
    if (threadIdx.x < 2 * Block::queries) block.sums(turn)[threadIdx.x] = sum;
  };
  /// The first tile of queries from `query` on that sees some of the keys; the length where there is none.
  const auto next_seeing = [&](int query) {
    while (query < shape.length && !tiles[query / tile_queries].see_some(block_key, Block::keys)) query = (query / tile_queries + 1) * tile_queries;
    return query < shape.length ? query : shape.length;
  };
#pragma unroll
  for (int part = 0; part < 2; ++part)
    load_tile<Block::keys>(block.own(part), g.qkv + shape.at(start + block_key, head, 1 + part) + own_chunk<HeadDim>(step), step, shape.length - block_key, shape.dims);
  int query = next_seeing(0), turn = 0;
  if (query < shape.length) load_queries(0, query), keep_sum(0, sum_of(query));
  ptx::commit_copies();

  const float to_log2 = shape.score_scale * log2_e;
  float dk[fragments][Block::warp_dims / 8][4]{}, dv[fragments][Block::warp_dims / 8][4]{};
  while (query < shape.length) {
    const int next = next_seeing(query + Block::queries), stage = stages > 1 ? turn : 0;
    ptx::wait_for_copies<0>();
    __syncthreads();
    if (stages > 1 && next < shape.length) load_queries(stage ^ 1, next);
    ptx::commit_copies();
    if (next < shape.length) keep_sum(turn ^ 1, sum_of(next));
    const TileKeys visible = tiles[query / tile_queries];
    if (visible.see_some(block_key + group_row, Block::warp_keys)) {
      std::uint32_t kept = 0;
      if (shape.dropout.threshold) {
#pragma unroll 1
        for (int i = 0; i < 4 * fragments * columns; ++i)
          kept |= std::uint32_t{shape.dropout.factor(shape.element(row, head, query + pair + i / 4 % columns * 8 + i % 2, own + i / (4 * columns) * 16 + i % 4 / 2 * 8)) != 0} << i;
      }
      const auto queries_here = block.passing(stage, 0), douts_here = block.passing(stage, 1);
      float s[fragments][columns][4]{}, ds[fragments][columns][4]{};  // transposed: a row a key
      multiply_transposed(s, block.own(0).from_row(group_row), queries_here.from_row(share * Block::warp_queries));
      multiply_transposed(ds, block.own(1).from_row(group_row), douts_here.from_row(share * Block::warp_queries));
      if (!visible.see_all(block_key + group_row, Block::warp_keys)) {
#pragma unroll
        for (int n = 0; n < columns; ++n)
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            const int i = query + pair + 8 * n + e;
            const SeenFrom sees(i < shape.length ? g.ranges[start + i] : KeyRange{}, own);
#pragma unroll
            for (int f = 0; f < fragments; ++f) {
              if (!sees(16 * f)) s[f][n][e] = -INFINITY;
              if (!sees(16 * f + 8)) s[f][n][e + 2] = -INFINITY;
            }
          }
      }
      const auto differentiate_all = [&](const auto& factor_of) {
#pragma unroll
        for (int n = 0; n < columns; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const float* sums = block.sums(turn) + pair + 8 * n + e % 2;
            const float log2_sum = sums[0], delta = sums[Block::queries];
#pragma unroll
            for (int f = 0; f < fragments; ++f) differentiate_pair(s[f][n][e], ds[f][n][e], to_log2, log2_sum, delta, factor_of(4 * (columns * f + n) + e));
          }
      };
      if (shape.dropout.threshold) differentiate_all([&](int i) { return kept >> i & 1 ? shape.dropout.kept : 0.0f; });
      else differentiate_all([](int) { return 1.0f; });
      typename Block::Left of_dv, of_dk;
#pragma unroll
      for (int f = 0; f < fragments; ++f) pack_left<T>(of_dv[f], s[f]), pack_left<T>(of_dk[f], ds[f]);
      if (Block::sharers > 1) block.share(of_dv, warp, 0), block.share(of_dk, warp, 1);
      multiply_plain(dv, of_dv, douts_here.from_row(share * Block::warp_queries), dim);
      multiply_plain(dk, of_dk, queries_here.from_row(share * Block::warp_queries), dim);
      if (Block::sharers > 1) {
        const int other = share ^ 1;
#pragma unroll
        for (int i = 0; i < Block::keys / Block::warp_keys; ++i)
          if (group == i) ptx::meet(1 + i, 32 * Block::sharers);  // a constant, so that only so many barriers are taken
        block.take(of_dv, warp ^ 1, 0);
        multiply_plain(dv, of_dv, douts_here.from_row(other * Block::warp_queries), dim);
        block.take(of_dk, warp ^ 1, 1);
        multiply_plain(dk, of_dk, queries_here.from_row(other * Block::warp_queries), dim);
      }
    }
    if (stages == 1) {
      __syncthreads();
      if (next < shape.length) load_queries(0, next);
      ptx::commit_copies();
    }
    query = next, turn ^= 1;
  }
  ptx::wait_for_copies<0>();
#pragma unroll
  for (int f = 0; f < fragments; ++f) {
    T* to[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = own + 16 * f + 8 * half;
      to[half] = i < shape.length ? g.dqkv + shape.at(start + i, head, 1) + dim : nullptr;
    }
    store_product(to[0], to[1], dk[f], shape.score_scale, shape.score_scale, shape.dims - dim);
    for (T*& row_of : to)
      if (row_of) row_of += shape.dims;
    store_product(to[0], to[1], dv[f], 1, 1, shape.dims - dim);
  }
}

/// Starts the backward of sm_80; false where it cannot run on this device.
template <int HeadDim, class T>
bool start_backward(sm_80, Device& device, const AttentionGradient<T>& gradient) {
  using Block = DkeyBlock<T, HeadDim>;
  constexpr std::size_t query_bytes = dquery_bytes<T, HeadDim>;
  const AttentionShape<T>& shape = gradient.shape;
  if (!has_matrix_path<T>(device, shape.dims, larger(query_bytes, Block::bytes))) return false;
  const std::int64_t chunks = std::int64_t{shape.rows} * shape.length * shape.heads * (shape.dims / 8);
  launch(device, {.name = "place_scaled_queries", .blocks = blocks_for(device, chunks, 256), .threads = 256}, place_scaled_queries_kernel<T>, gradient.dqkv, gradient.qkv, shape);
  const auto how = [&](std::string_view name, std::int64_t blocks, std::size_t bytes) {
    return Launch{.name = name, .blocks = blocks, .threads = matrix_threads, .shared_bytes = bytes, .blocks_y = shape.heads, .blocks_z = shape.rows};
  };
  launch(device, how("attend_dkey", ceil_div(shape.length, Block::keys) * Block::parts, Block::bytes), attend_dkey_kernel<T, HeadDim>, gradient);
  launch(device, how("attend_dquery", ceil_div(shape.length, block_queries<HeadDim>), query_bytes), attend_dquery_kernel<T, HeadDim>, gradient);
  return true;
}

}  // namespace golem::cuda
