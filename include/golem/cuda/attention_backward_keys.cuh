// d key and d value of attention by matrix instructions of sm_80: a warp sums 64 dims of 32 keys, and two share the keys of a wide head.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "golem/core/math.hpp"
#include "golem/cuda/attention_forward.cuh"
#include "golem/cuda/attention_mask.cuh"
#include "golem/cuda/attention_shape.cuh"
#include "golem/cuda/attention_softmax.cuh"
#include "golem/cuda/attention_tile.cuh"

namespace golem::cuda {

/// A warp sums 64 dims of the gradients of 32 keys. Where heads are wider two warps share the keys: each makes the
/// probabilities for half of the queries of a tile, both read all of them. Blocks of keys take turns over the parts of a still wider head.
template <class T, int HeadDim>
struct DkeyBlock {
  static constexpr int warp_dims = 64, warp_keys = 32, warp_queries = 32, fragments = warp_keys / 16, columns = warp_queries / 8, steps = warp_queries / 16;
  static constexpr int sharers = HeadDim > 64 ? 2 : 1, parts = HeadDim / (sharers * warp_dims);
  static constexpr int keys = matrix_threads / 32 / sharers * warp_keys, queries = sharers * warp_queries;
  using Tile = SharedTile<T, HeadDim>;
  using Left = std::uint32_t[fragments][steps][4];

  /// Of each warp, the left sides of d value and of d key, as its lanes hold them.
  struct alignas(16) Shared {
    std::uint32_t left[matrix_threads / 32][2][fragments][steps][32][4];
  };
  static constexpr std::size_t sum_bytes = sizeof(float) * 4 * queries, shared_bytes = sharers > 1 ? sizeof(Shared) : 0;
  static constexpr std::size_t bytes(int stages) { return sum_bytes + shared_bytes + sizeof(T) * HeadDim * static_cast<std::size_t>(2 * keys + 2 * stages * queries); }
  unsigned char* memory;

  /// Of one of two turns: log2 of the softmax's sum for each query, then the deltas.
  __device__ float* sums(int turn) const { return reinterpret_cast<float*>(memory) + turn * 2 * queries; }
  __device__ Shared& shared() const { return *reinterpret_cast<Shared*>(memory + sum_bytes); }
  /// Keys, then values.
  __device__ Tile own(int part) const { return Tile{reinterpret_cast<T*>(memory + sum_bytes + shared_bytes)}.from_row(part * keys); }
  /// Of a stage: queries, and dout.
  __device__ Tile passing(int stage, int part) const { return own(2).from_row((2 * stage + part) * queries); }

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

/// A score and d probability become the probability after dropout and d score, of one pair: `log2_sum` is the log-sum-exp times log2_e<float>, infinite where there is no query. A score of -infinity is of a hidden pair.
__device__ inline void differentiate_pair(float& s, float& dp, float to_log2, float log2_sum, float delta, float factor) {
  const float p = ptx::exp2_fast(s * to_log2 - log2_sum);
  s = p * factor;
  dp = p * (dp * factor - delta);
}

/// d key and d value of DkeyBlock::keys, over all tiles of queries of the heads that share them that see some of them, head after head; scaled queries are where d query will be.
/// `stages`: tiles of queries that there is memory for, 1 or 2.
template <class T, int HeadDim>
__global__ void __launch_bounds__(matrix_threads, matrix_blocks<HeadDim>) attend_dkey_kernel(AttentionGradient<T> g, int stages, BlockOrder order) {
  ptx::begin_kernel();
  using Block = DkeyBlock<T, HeadDim>;
  constexpr int fragments = Block::fragments, columns = Block::columns;
  const AttentionShape<T>& shape = g.shape;
  const Block block{dynamic_shared<unsigned char>()};
  const BlockOrder::Place place = order.place(blockIdx.x, blockIdx.y, blockIdx.z);
  if (place.head >= order.heads) return;
  const int warp = static_cast<int>(threadIdx.x / 32), group = warp / Block::sharers, share = warp % Block::sharers, first_head = place.head * shape.sharers, row = place.row;
  const int block_key = place.block / Block::parts * Block::keys, group_row = group * Block::warp_keys, own = block_key + group_row + ptx::lane() / 4;
  const int dim = (place.block % Block::parts * Block::sharers + share) * Block::warp_dims, pair = share * Block::warp_queries + 2 * (ptx::lane() % 4);
  const std::int64_t start = std::int64_t{row} * shape.length;
  const int step = static_cast<int>(shape.token_step()), out_step = shape.heads * shape.dims;
  const TileKeys* tiles = g.tiles + std::int64_t{row} * ceil_div(shape.length, tile_queries);
  const T *queries_from = g.dqkv + shape.at(start, first_head, 0) + own_chunk<HeadDim>(step), *douts_from = g.dout + start * out_step + std::int64_t{first_head} * shape.dims + own_chunk<HeadDim>(out_step);
  struct Queries {
    int sharer, first;  // of the heads; of its queries
  };
  const auto load_queries = [&](int stage, const Queries& q) {
    load_tile<Block::queries>(block.passing(stage, 0), queries_from + std::int64_t{q.first} * step + q.sharer * shape.dims, step, shape.length - q.first, shape.dims);
    load_tile<Block::queries>(block.passing(stage, 1), douts_from + std::int64_t{q.first} * out_step + q.sharer * shape.dims, out_step, shape.length - q.first, shape.dims);
  };
  /// This thread's part of Block::sums.
  const auto sum_of = [&](const Queries& q) {
    const int i = static_cast<int>(threadIdx.x), at = q.first + i % Block::queries;
    const std::int64_t first = (std::int64_t{row} * shape.heads + first_head + q.sharer) * shape.length;
    if (i >= 2 * Block::queries) return 0.0f;
    if (i < Block::queries) return at < shape.length ? g.log_sum[first + at] * log2_e<float> : INFINITY;
    return at < shape.length ? g.delta[first + at] : 0.0f;
  };
  const auto keep_sum = [&](int turn, float sum) {
    if (threadIdx.x < 2 * Block::queries) block.sums(turn)[threadIdx.x] = sum;
  };
  /// The first queries from `q` on, head after head, that see some of the keys; of no head where there are none.
  const auto next_seeing = [&](Queries q) {
    for (; q.sharer < shape.sharers; q = {q.sharer + 1, 0})
      for (; q.first < shape.length; q.first = (q.first / tile_queries + 1) * tile_queries)
        if (tiles[q.first / tile_queries].see_some(block_key, Block::keys)) return q;
    return q;
  };
#pragma unroll
  for (int part = 0; part < 2; ++part)
    load_tile<Block::keys>(block.own(part), g.qkv + shape.at(start + block_key, first_head, 1 + part) + own_chunk<HeadDim>(step), step, shape.length - block_key, shape.dims);
  Queries q = next_seeing({0, 0});
  int turn = 0;
  if (q.sharer < shape.sharers) load_queries(0, q), keep_sum(0, sum_of(q));
  ptx::commit_copies();

  const float to_log2 = shape.score_scale * log2_e<float>;
  float dk[fragments][Block::warp_dims / 8][4]{}, dv[fragments][Block::warp_dims / 8][4]{};
  while (q.sharer < shape.sharers) {
    const Queries next = next_seeing({q.sharer, q.first + Block::queries});
    const bool more = next.sharer < shape.sharers;
    const int query = q.first, stage = stages > 1 ? turn : 0;
    ptx::wait_for_copies<0>();
    __syncthreads();
    if (stages > 1 && more) load_queries(stage ^ 1, next);
    ptx::commit_copies();
    if (more) keep_sum(turn ^ 1, sum_of(next));
    const TileKeys visible = tiles[query / tile_queries];
    if (visible.see_some(block_key + group_row, Block::warp_keys)) {
      const std::uint32_t kept = shape.dropout.threshold ? kept_queries<fragments, columns>(shape, row, first_head + q.sharer, query + pair, own) : 0;
      const auto queries_here = block.passing(stage, 0), douts_here = block.passing(stage, 1);
      float s[fragments][columns][4]{}, ds[fragments][columns][4]{};  // transposed: a row a key
      multiply_transposed(s, block.own(0).from_row(group_row), queries_here.from_row(share * Block::warp_queries));
      multiply_transposed(ds, block.own(1).from_row(group_row), douts_here.from_row(share * Block::warp_queries));
      if (!visible.see_all(block_key + group_row, Block::warp_keys))
        hide_queries<fragments>(s, [&](int n, int e) { return g.ranges[start + smaller(query + pair + 8 * n + e, shape.length - 1)]; }, own);  // behind the row's end sums are infinite
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
          if (group == i) ptx::meet(1 + i, 32 * Block::sharers);  // for the shared sides alone: tiles are given back at the block's barrier above. A constant, so that only so many barriers are taken
        block.take(of_dv, warp ^ 1, 0);
        multiply_plain(dv, of_dv, douts_here.from_row(other * Block::warp_queries), dim);
        block.take(of_dk, warp ^ 1, 1);
        multiply_plain(dk, of_dk, queries_here.from_row(other * Block::warp_queries), dim);
      }
    }
    if (stages == 1) {
      __syncthreads();
      if (more) load_queries(0, next);
      ptx::commit_copies();
    }
    q = next, turn ^= 1;
  }
  ptx::wait_for_copies<0>();
#pragma unroll
  for (int f = 0; f < fragments; ++f) {
    store_gradient(g, dk[f], row, own + 16 * f, first_head, 1, dim, shape.score_scale);
    store_gradient(g, dv[f], row, own + 16 * f, first_head, 2, dim, 1);
  }
}

}  // namespace golem::cuda
