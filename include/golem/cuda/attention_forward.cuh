// The forward of attention by matrix instructions of sm_80: 64 queries a block, online softmax in fp32 over tiles of 64 keys.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

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

/// Bytes of shared memory: queries, and two stages of keys and values.
template <class T, int HeadDim>
inline constexpr std::size_t forward_bytes = sizeof(T) * HeadDim * (tile_queries + 4 * tile_keys);

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

/// out (N, H, D) and log_sum (B, H, T), unless null, from qkv (N, H, 3, D). A block takes 64 queries of a head; of its four
/// warps each takes 16.
template <class T, int HeadDim>
__global__ void __launch_bounds__(128) attend_kernel(T* out, float* log_sum, const T* qkv, const KeyRange* ranges, const TileKeys* tiles, AttentionShape<T> shape) {
  constexpr int columns = tile_keys / 8;
  T* memory = dynamic_shared<T>();
  const auto tile_at = [&](int rows_before) { return SharedTile<T, HeadDim>{memory + rows_before * HeadDim}; };
  const SharedTile<T, HeadDim> queries = tile_at(0);
  const int lane = ptx::lane(), warp_row = static_cast<int>(threadIdx.x / 32) * 16, head = static_cast<int>(blockIdx.y), row = static_cast<int>(blockIdx.z);
  const int tile = static_cast<int>(gridDim.x - 1 - blockIdx.x), query = tile * tile_queries;  // long ones first
  const std::int64_t start = std::int64_t{row} * shape.length, step = shape.token_step();
  const TileKeys visible = tiles[std::int64_t{row} * gridDim.x + tile];
  const T* keys = qkv + shape.at(start, head, 1);

  const auto load_keys = [&](int stage, int key) {
    const int valid = visible.some_last - key;
    load_tile(tile_at(tile_queries + 2 * stage * tile_keys), keys + key * step, step, tile_keys, valid, shape.dims);
    load_tile(tile_at(tile_queries + (2 * stage + 1) * tile_keys), keys + shape.dims + key * step, step, tile_keys, valid, shape.dims);
  };
  load_tile(queries, qkv + shape.at(start + query, head, 0), step, tile_queries, shape.length - query, shape.dims);
  ptx::commit_copies();
  if (visible.some_first < visible.some_last) load_keys(0, visible.some_first);
  ptx::commit_copies();
  ptx::wait_for_copies<1>();
  scale_tile(queries, tile_queries, shape.query_scale);

  int own[2];  // this lane's two queries
  KeyRange range[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    own[half] = query + warp_row + lane / 4 + 8 * half;
    range[half] = own[half] < shape.length ? ranges[start + own[half]] : KeyRange{};
  }
  OnlineSoftmax softmax;
  float o[HeadDim / 8][4]{};
  int stage = 0;
  for (int key = visible.some_first; key < visible.some_last; key += tile_keys, stage ^= 1) {
    if (key + tile_keys < visible.some_last) load_keys(stage ^ 1, key + tile_keys);
    ptx::commit_copies();
    ptx::wait_for_copies<1>();
    __syncthreads();
    float s[columns][4]{};
    multiply_transposed(s, queries, warp_row, tile_at(tile_queries + 2 * stage * tile_keys), shape.dims);
    if (!visible.see_all(key, tile_keys)) {
#pragma unroll
      for (int n = 0; n < columns; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int k = key + 8 * n + 2 * (lane % 4) + e % 2;
          if (!range[e / 2].sees(k)) s[n][e] = -INFINITY;
        }
    }
    float rescale[2];
    softmax.meet(s, rescale, shape.score_scale);
#pragma unroll
    for (int n = 0; n < HeadDim / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) o[n][e] *= rescale[e / 2];
    if (shape.dropout.threshold) {
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int n = 0; n < columns; ++n) {
          float kept[2];
          shape.dropout.factors(kept, shape.element(row, head, own[half], key + 8 * n + 2 * (lane % 4)));
          s[n][2 * half] *= kept[0], s[n][2 * half + 1] *= kept[1];
        }
    }
    std::uint32_t p[columns / 2][4];
    pack_left<T>(p, s);
    multiply_plain(o, p, tile_at(tile_queries + (2 * stage + 1) * tile_keys), 0, shape.dims);
    __syncthreads();
  }
  ptx::wait_for_copies<0>();

  store_attended(out, log_sum, o, softmax, own, row, head, shape);
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
  const Launch how{.name = "attend", .blocks = call.visible.tiles.extent(1), .threads = 128, .shared_bytes = bytes, .blocks_y = call.shape.heads, .blocks_z = call.shape.rows};
  launch(device, how, attend_kernel<T, HeadDim>, call.out, call.log_sum, call.qkv.data, call.visible.ranges.data, call.visible.tiles.data, call.shape);
  return true;
}

}  // namespace golem::cuda
