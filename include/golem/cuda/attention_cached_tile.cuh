// Attention of many new tokens, a prompt, to a key-value cache by matrix instructions of sm_80: 64 queries of a sequence a block.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "golem/core/math.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/cuda/attention_cached_rows.cuh"
#include "golem/cuda/attention_forward.cuh"
#include "golem/cuda/attention_shape.cuh"
#include "golem/cuda/attention_softmax.cuh"
#include "golem/cuda/attention_tile.cuh"

namespace golem::cuda {

/// Up to 64 new tokens of one sequence.
struct CachedTile {
  const CachedSequence* sequence = nullptr;  // null: there is no such tile
  int first = 0, count = 0;                  // of the sequence's new tokens

  /// Tile `number` of all sequences, as only the GPU knows how many each has.
  __device__ CachedTile(const CachedSequence* sequences, int count_of_them, int number) {
    for (int s = 0; s < count_of_them; ++s) {
      const int tiles = (sequences[s].count + tile_queries - 1) / tile_queries;
      if (number < tiles) {
        sequence = sequences + s, first = number * tile_queries, count = smaller(tile_queries, sequences[s].count - first);
        return;
      }
      number -= tiles;
    }
  }
};

/// As attend_kernel. Block (tile, head), the tiles of the last sequence first.
template <class T, int HeadDim>
__global__ void __launch_bounds__(matrix_threads) attend_cached_tile_kernel(CachedAttention<T> call) {
  ptx::begin_kernel();
  constexpr int columns = tile_keys / 8;
  const CachedTile tile(call.sequences, call.count, static_cast<int>(gridDim.x - 1 - blockIdx.x));
  if (!tile.sequence) return;
  const AttentionShape<T>& shape = call.shape;
  T* memory = dynamic_shared<T>();
  const auto tile_at = [&](int rows_before) { return SharedTile<T, HeadDim>{memory + rows_before * HeadDim}; };
  const SharedTile<T, HeadDim> queries = tile_at(0);
  const int head = static_cast<int>(blockIdx.y), query = tile.sequence->row + tile.first, row = static_cast<int>(threadIdx.x / 32) * 16 + ptx::lane() / 4;
  const int least = call.seen(*tile.sequence, query), most = call.seen(*tile.sequence, query + tile.count - 1);  // keys that its queries see
  const T *keys = call.keys + call.cache(*tile.sequence, head), *values = call.values + call.cache(*tile.sequence, head);

  const auto load_keys = [&](int stage, int key) {
    const std::int64_t from = std::int64_t{key} * shape.dims + own_chunk<HeadDim>(shape.dims);
    load_tile<tile_keys>(tile_at(tile_queries + 2 * stage * tile_keys), keys + from, shape.dims, most - key, shape.dims);
    load_tile<tile_keys>(tile_at(tile_queries + (2 * stage + 1) * tile_keys), values + from, shape.dims, most - key, shape.dims);
  };
  const int step = static_cast<int>(shape.token_step());
  load_tile<tile_queries>(queries, call.qkv + shape.at(query, head, 0) + own_chunk<HeadDim>(step), step, tile.count, shape.dims);
  ptx::commit_copies();
  load_keys(0, 0);
  ptx::commit_copies();
  ptx::wait_for_copies<1>();
  scale_tile<tile_queries>(queries, shape.query_scale);

  int own[2], seen[2];  // this lane's two queries; beyond the tile's, which are nobody's, behind all
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    own[half] = row + 8 * half < tile.count ? query + row + 8 * half : shape.length;
    seen[half] = row + 8 * half < tile.count ? call.seen(*tile.sequence, own[half]) : 0;
  }
  OnlineSoftmax softmax;
  float o[1][HeadDim / 8][4]{};
  int stage = 0;
  for (int key = 0; key < most; key += tile_keys, stage ^= 1) {
    if (key + tile_keys < most) load_keys(stage ^ 1, key + tile_keys);
    ptx::commit_copies();
    ptx::wait_for_copies<1>();
    __syncthreads();
    float s[1][columns][4]{};
    multiply_transposed(s, queries.from_row(row - ptx::lane() / 4), tile_at(tile_queries + 2 * stage * tile_keys));
    if (key + tile_keys > least) {
#pragma unroll
      for (int n = 0; n < columns; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          if (key + 8 * n + 2 * (ptx::lane() % 4) + e % 2 >= seen[e / 2]) s[0][n][e] = -INFINITY;
    }
    float rescale[2];
    softmax.meet(s[0], rescale, shape.score_scale);
#pragma unroll
    for (int n = 0; n < HeadDim / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) o[0][n][e] *= rescale[e / 2];
    std::uint32_t p[1][columns / 2][4];
    pack_left<T>(p[0], s[0]);
    multiply_plain(o, p, tile_at(tile_queries + (2 * stage + 1) * tile_keys));
    __syncthreads();
  }
  ptx::wait_for_copies<0>();
  store_attended(call.out, static_cast<float*>(nullptr), o[0], softmax, own, 0, head, shape);
}

/// Starts it on as many tiles as there can be; false where it cannot run on this device.
template <int HeadDim, class T>
bool start_cached_tiles(Device& device, const CachedAttention<T>& call) {
  constexpr std::size_t bytes = sizeof(T) * HeadDim * (tile_queries + 4 * tile_keys);
  if (!has_matrix_path<T>(device, call.shape.dims, bytes)) return false;
  const std::int64_t tiles = ceil_div(call.shape.length, tile_queries) + call.count - 1;
  launch(device, {.name = "attend_cached_tile", .early = true, .blocks = tiles, .threads = matrix_threads, .shared_bytes = bytes, .blocks_y = call.shape.heads, .architecture = 80}, attend_cached_tile_kernel<T, HeadDim>, call);
  return true;
}

}  // namespace golem::cuda
