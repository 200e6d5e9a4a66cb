// The forward of attention by matrix instructions of sm_80: 32 queries a warp, online softmax in fp32 over tiles of 64 keys.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "golem/core/math.hpp"
#include "golem/cuda/architecture.hpp"
#include "golem/cuda/attention_mask.cuh"
#include "golem/cuda/attention_plain.cuh"
#include "golem/cuda/attention_tile.cuh"

namespace golem::cuda {

/// Whether the kernels of matrix instructions take heads of `dims` dims of T, with `shared_bytes` of shared memory a block.
template <class T>
bool has_matrix_path(const Device& device, std::int64_t dims, std::size_t shared_bytes) {
  return sizeof(T) == 2 && dims % 16 == 0 && dims <= most_head_dims && device.compute_capability() >= 80 && shared_bytes <= device.shared_bytes();
}

inline constexpr float log2_e = 1.4426950408889634f;

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

/// What a query sees of the keys from `key` on: KeyRange::sees without branches, for many keys a known distance away.
struct SeenFrom {
  unsigned behind, width, context_behind, context_width;

  __device__ SeenFrom(const KeyRange& range, int key)
      : behind(static_cast<unsigned>(key - range.first)),
        width(static_cast<unsigned>(larger(range.last - range.first, 0))),
        context_behind(static_cast<unsigned>(key - range.context_first)),
        context_width(static_cast<unsigned>(larger(range.context_last - range.context_first, 0))) {}
  __device__ bool operator()(int further) const {
    return (behind + static_cast<unsigned>(further) < width) | (context_behind + static_cast<unsigned>(further) < context_width);
  }
};

/// Scores (16, 8 Columns) of hidden pairs become -infinity. A lane's element (n, e) is of query own + 8 (e / 2), and of key + 8 n + e % 2.
template <int Columns>
__device__ void hide_keys(float (&s)[Columns][4], const KeyRange* ranges, int own, int length, int key) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const SeenFrom sees(ranges[smaller(own + 8 * half, length - 1)], key);
#pragma unroll
    for (int n = 0; n < Columns; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e)
        if (!sees(8 * n + e)) s[n][2 * half + e] = -INFINITY;
  }
}

/// Which probabilities (16 Fragments, 8 Columns) dropout keeps, bit 4 (Columns f + n) + e for element (n, e) of fragment f, that of query
/// own + 16 f + 8 (e / 2) and of key + 8 n + e % 2. A loop, as the draws are long code; drawn where few registers are in use.
template <int Fragments, int Columns, class T>
__device__ std::uint64_t kept_keys(const AttentionShape<T>& shape, int row, int head, int own, int key) {
  static_assert(4 * Fragments * Columns <= 64, "golem: dropout keeps a bit for each probability");
  std::uint64_t kept = 0;
#pragma unroll 1
  for (int i = 0; i < 2 * Fragments * Columns; ++i) {
    float factor[2];
    shape.dropout.factors(factor, shape.element(row, head, own + i / (2 * Columns) * 16 + i % 2 * 8, key + i / 2 % Columns * 8));
    kept |= std::uint64_t{factor[0] != 0} << 2 * i | std::uint64_t{factor[1] != 0} << (2 * i + 1);
  }
  return kept;
}

/// The softmax of 16 queries so far: of rows lane / 4 and lane / 4 + 8, in the four lanes that share a row.
struct OnlineSoftmax {
  float max[2]{-INFINITY, -INFINITY}, sum[2]{};  // the sum of this lane's columns

  /// Scores become exp(scale * score - max); `rescale` is what earlier results are to be multiplied by.
  template <int Columns>
  __device__ void meet(float (&s)[Columns][4], float (&rescale)[2], float scale) {
    const float to_log2 = scale * log2_e;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = max[half];
#pragma unroll
      for (int n = 0; n < Columns; ++n) top = fmaxf(top, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
      top = fmaxf(top, ptx::shuffle_xor(top, 1));
      top = fmaxf(top, ptx::shuffle_xor(top, 2));
      rescale[half] = max[half] == -INFINITY ? 0.0f : ptx::exp2_fast((max[half] - top) * to_log2);
      const float base = top == -INFINITY ? 0.0f : top * to_log2;  // a query that has seen no key yet
      float total = 0;
#pragma unroll
      for (int n = 0; n < Columns; ++n)
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) total += s[n][e] = ptx::exp2_fast(s[n][e] * to_log2 - base);
      sum[half] = sum[half] * rescale[half] + total;
      max[half] = top;
    }
  }
  /// The sum over the row's lanes; every lane takes part.
  __device__ float total(int half) const {
    float all = sum[half] + ptx::shuffle_xor(sum[half], 1);
    return all + ptx::shuffle_xor(all, 2);
  }
};

/// Ends the forward of this lane's two queries `own`: o, of which their softmax has the sums, goes to out (N, H, D), and their log-sum-exp to
/// log_sum (B, H, T), unless null.
template <class T, int Columns>
__device__ void store_attended(T* out, float* log_sum, const float (&o)[Columns][4], const OnlineSoftmax& softmax, const int (&own)[2], int row, int head, const AttentionShape<T>& shape) {
  float inverse[2];
  T* to[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float sum = softmax.total(half);
    inverse[half] = sum == 0 ? 0.0f : 1 / sum;  // 0: outside every window
    const bool here = own[half] < shape.length;
    to[half] = here ? out + ((std::int64_t{row} * shape.length + own[half]) * shape.heads + head) * shape.dims : nullptr;
    if (log_sum && here && ptx::lane() % 4 == 0)
      log_sum[(std::int64_t{row} * shape.heads + head) * shape.length + own[half]] = sum == 0 ? 0.0f : softmax.max[half] * shape.score_scale + logf(sum);
  }
  store_product(to[0], to[1], o, inverse[0], inverse[1], shape.dims);
}

/// Ends a backward of this lane's two rows `own` and `own` + 8: columns of d query, d key or d value, parts 0, 1 and 2, from dim `first_dim`
/// on, times `scale`, to dqkv (N, H, 3, D).
template <class T, int Columns>
__device__ void store_gradient(const AttentionGradient<T>& g, const float (&c)[Columns][4], int row, int own, int head, int part, int first_dim, float scale) {
  const AttentionShape<T>& shape = g.shape;
  T* to[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = own + 8 * half;
    to[half] = i < shape.length ? g.dqkv + shape.at(std::int64_t{row} * shape.length + i, head, part) + first_dim : nullptr;
  }
  store_product(to[0], to[1], c, scale, scale, shape.dims - first_dim);
}

/// out (N, H, D) and log_sum (B, H, T), unless null, from qkv (N, H, 3, D). A block takes block_queries of a head, each of its warps a
/// quarter of them. Tiles arrive in the order in which they are used, keys then values, each two ahead.
template <class T, int HeadDim>
__global__ void __launch_bounds__(matrix_threads, matrix_blocks<HeadDim>)
    attend_kernel(T* out, float* log_sum, const T* qkv, const KeyRange* ranges, const TileKeys* tiles, AttentionShape<T> shape) {
  constexpr int fragments = warp_fragments<HeadDim>, columns = tile_keys / 8;
  const SharedTile<T, HeadDim> queries{dynamic_shared<T>()}, places = queries.from_row(block_queries<HeadDim>);
  const int warp_row = static_cast<int>(threadIdx.x / 32) * 16 * fragments, head = static_cast<int>(blockIdx.y), row = static_cast<int>(blockIdx.z);
  const int query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * block_queries<HeadDim>;  // long ones first
  const int own = query + warp_row + ptx::lane() / 4, pair = 2 * (ptx::lane() % 4);  // this lane's first query, and first key of a tile
  const std::int64_t start = std::int64_t{row} * shape.length;
  const int step = static_cast<int>(shape.token_step());
  const BlockKeys<HeadDim> visible(tiles, row, shape.length, query, warp_row);
  const T* from = qkv + shape.at(start + query, head, 0) + own_chunk<HeadDim>(step);
  const auto load_part = [&](int place, int part, int key) {
    load_tile<tile_keys>(places.from_row(place * tile_keys), from + part * shape.dims, step, visible.last - key, shape.dims);
  };
  load_tile<block_queries<HeadDim>>(queries, from, step, shape.length - query, shape.dims);
  ptx::commit_copies();
  from += static_cast<std::int64_t>(visible.first - query) * step;
  if (visible.first < visible.last) load_part(0, 1, visible.first);
  ptx::commit_copies();
  if (visible.first < visible.last) load_part(1, 2, visible.first);
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
    if (more) load_part(free_place, 1, key + tile_keys);
    ptx::commit_copies();
    if (seen) {
      const std::uint64_t kept = shape.dropout.threshold ? kept_keys<fragments, columns>(shape, row, head, own, key + pair) : 0;
      float s[fragments][columns][4]{};
      multiply_transposed(s, queries.from_row(warp_row), places.from_row(key_place * tile_keys));
      if (!all_seen) {
#pragma unroll
        for (int f = 0; f < fragments; ++f) hide_keys(s[f], ranges + start, own + 16 * f, shape.length, key + pair);
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
    if (more) load_part(key_place, 2, key + tile_keys);
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
  const Launch how{.name = "attend", .blocks = ceil_div(call.shape.length, block_queries<HeadDim>), .threads = matrix_threads, .shared_bytes = bytes, .blocks_y = call.shape.heads, .blocks_z = call.shape.rows};
  launch(device, how, attend_kernel<T, HeadDim>, call.out, call.log_sum, call.qkv.data, call.visible.ranges.data, call.visible.tiles.data, call.shape);
  return true;
}

}  // namespace golem::cuda
