// The forward of attention by tiles in shared memory, without matrix instructions: for fp32 and fp64, up to 128 dims.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "golem/core/math.hpp"
#include "golem/core/number.hpp"
#include "golem/cuda/attention_mask.cuh"
#include "golem/cuda/attention_plain.cuh"
#include "golem/cuda/attention_shape.cuh"
#include "golem/cuda/launch.hpp"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

inline constexpr int most_tiled_dims = 128;
inline constexpr int tiled_warps = 4, warp_rows = 8, tiled_rows = tiled_warps * warp_rows;  // a block has 32 rows, queries or keys, each warp 8 of them
inline constexpr int lane_rows = 32;                                                        // and of the other side a tile of 32, each a lane's
/// Blocks that a multiprocessor's shared memory has room for, and whose registers suffice then.
template <class T>
inline constexpr int tiled_blocks = sizeof(T) == 4 ? 3 : 1;

/// The rows of a block, by dim, so that a warp reads those of its own together, each lane all of them.
template <class A>
struct OwnRows {
  static constexpr int pitch = tiled_rows + 4;
  A* data;

  /// element(row, dim) for each.
  template <class Element>
  __device__ void load(int dims, const Element& element) const {
    for (int row = static_cast<int>(threadIdx.x / 32); row < tiled_rows; row += tiled_warps)
      for (int d = ptx::lane(); d < dims; d += 32) data[d * pitch + row] = element(row, d);
  }
  __device__ void read(A (&x)[warp_rows], int d) const { read_rows(x, data + d * pitch + static_cast<int>(threadIdx.x / 32) * warp_rows); }
  static __device__ void read_rows(A (&x)[warp_rows], const A* from) {
    const Pack<A, wide<A>>* packs = reinterpret_cast<const Pack<A, wide<A>>*>(from);
#pragma unroll
    for (int i = 0; i < warp_rows; ++i) x[i] = packs[i / wide<A>].element[i % wide<A>];
  }
};

/// The rows of a tile, an odd number of elements apart, so that lanes read theirs from different banks.
template <class A>
struct LaneRows {
  A* data;
  int pitch;

  /// element(row, dim) for each, of at most 32 R dims: all that a thread takes is under way before it stores the first.
  template <int R, class Element>
  __device__ void load(int dims, const Element& element) const {
    constexpr int steps = lane_rows / tiled_warps;
    const int first = static_cast<int>(threadIdx.x / 32), lane = ptx::lane();
    A held[steps][R];
#pragma unroll
    for (int s = 0; s < steps; ++s)
#pragma unroll
      for (int r = 0; r < R; ++r)
        if (lane + 32 * r < dims) held[s][r] = element(first + s * tiled_warps, lane + 32 * r);
#pragma unroll
    for (int s = 0; s < steps; ++s)
#pragma unroll
      for (int r = 0; r < R; ++r)
        if (lane + 32 * r < dims) data[(first + s * tiled_warps) * pitch + lane + 32 * r] = held[s][r];
  }
  __device__ const A& operator()(int row, int d) const { return data[row * pitch + d]; }
};

/// What a kernel takes of shared memory for `sides` kinds of rows of either kind, and `weights` of each pair of them.
template <class A>
struct TiledMemory {
  int dims;

  GOLEM_HD int pitch() const { return dims | 1; }
  GOLEM_HD int own_size() const { return dims * OwnRows<A>::pitch; }
  GOLEM_HD int lane_size() const { return (lane_rows * pitch() + 3) & ~3; }
  static constexpr int weights_size = tiled_warps * lane_rows * warp_rows;

  std::size_t bytes(int sides, int weights) const { return sizeof(A) * static_cast<std::size_t>(sides * own_size() + 2 * lane_size() + weights * weights_size); }
  __device__ OwnRows<A> own(int i) const { return {dynamic_shared<A>() + i * own_size()}; }
  __device__ LaneRows<A> lanes(int sides, int i) const { return {dynamic_shared<A>() + sides * own_size() + i * lane_size(), pitch()}; }
  /// Of the warp: for each lane's row its weights with the warp's own.
  __device__ A* weights(int sides, int i) const {
    return dynamic_shared<A>() + sides * own_size() + 2 * lane_size() + i * weights_size + static_cast<int>(threadIdx.x / 32) * lane_rows * warp_rows;
  }
};

/// sums[i] += own row i . the lane's row.
template <class A>
__device__ void add_products(A (&sums)[warp_rows], const OwnRows<A>& own, const LaneRows<A>& other, int dims) {
  const int lane = ptx::lane();
#pragma unroll 4
  for (int d = 0; d < dims; ++d) {
    A x[warp_rows];
    own.read(x, d);
    const A y = other(lane, d);
#pragma unroll
    for (int i = 0; i < warp_rows; ++i) sums[i] += x[i] * y;
  }
}

/// Leaves what each lane has of the warp's rows where add_weighted finds it.
template <class A>
__device__ void put_weights(A* weights, const A (&w)[warp_rows]) {
  Pack<A, wide<A>>* packs = reinterpret_cast<Pack<A, wide<A>>*>(weights + ptx::lane() * warp_rows);
#pragma unroll
  for (int p = 0; p < warp_rows / wide<A>; ++p) {
    Pack<A, wide<A>> pack;
#pragma unroll
    for (int i = 0; i < wide<A>; ++i) pack.element[i] = w[p * wide<A> + i];
    packs[p] = pack;
  }
}

/// out[i][r], dim lane + 32 r of own row i, += the tile's rows, each by its weight with row i.
template <int R, class A>
__device__ void add_weighted(A (&out)[warp_rows][R], const A* weights, const LaneRows<A>& other, int dims) {
  const int lane = ptx::lane();
#pragma unroll 2
  for (int l = 0; l < lane_rows; ++l) {
    A w[warp_rows];
    OwnRows<A>::read_rows(w, weights + l * warp_rows);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const int d = lane + 32 * r;
      const A y = d < dims ? other(l, d) : A{0};
#pragma unroll
      for (int i = 0; i < warp_rows; ++i) out[i][r] += w[i] * y;
    }
  }
}

/// Elements of a head's queries (0), scaled and rounded, keys (1) or values (2): those of its rows from `first` on, and zeros from `last` on.
template <int part, class T>
struct HeadRows {
  using A = accumulate_t<T>;
  const T* rows;
  A query_scale;
  int step, count;

  __device__ HeadRows(const T* qkv, const AttentionShape<T>& shape, std::int64_t start, int head, int first, int last)
      : rows(qkv + shape.at(start + first, head, part)), query_scale(shape.query_scale), step(shape.slots * shape.dims), count(last - first) {}
  __device__ A operator()(int i, int d) const {
    if (i >= count) return 0;
    const A x = rows[i * step + d];
    return part == 0 ? rounded<T>(x * query_scale) : x;
  }
};

/// The rows that the first blocks take: those that have most to do under a causal mask.
enum class FirstBlocks { last_queries, first_keys };

/// Which rows of which head of which row of the batch a block takes.
struct TiledBlock {
  int first, head, row;  // the first of its rows; its warp's is own_first
  int own_first;
  std::int64_t start;    // the row's first token

  __device__ TiledBlock(int length, FirstBlocks take)
      : first(static_cast<int>(take == FirstBlocks::last_queries ? gridDim.x - 1 - blockIdx.x : blockIdx.x) * tiled_rows),
        head(static_cast<int>(blockIdx.y)),
        row(static_cast<int>(blockIdx.z)),
        own_first(first + static_cast<int>(threadIdx.x / 32) * warp_rows),
        start(std::int64_t{row} * length) {}
};

template <class T>
Launch tiled_launch(std::string_view name, const AttentionShape<T>& shape, int heads, std::size_t bytes) {
  return {.name = name, .early = true, .blocks = ceil_div(shape.length, tiled_rows), .threads = 32 * tiled_warps, .shared_bytes = bytes, .blocks_y = heads, .blocks_z = shape.rows};
}

/// out (N, H, D) and log_sum (B, H, T), unless null, from qkv (N, G, S + 2, D): each lane scores a key of the tile for 8 queries, then adds up dims of their values.
template <class T, int HeadDim>
__global__ void __launch_bounds__(32 * tiled_warps, tiled_blocks<T>)
attend_tiled_kernel(T* out, accumulate_t<T>* log_sum, const T* qkv, const KeyRange* ranges, const TileKeys* tiles, AttentionShape<T> shape) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  constexpr int R = HeadDim / 32;
  const TiledBlock block(shape.length, FirstBlocks::last_queries);
  const TiledMemory<A> memory{shape.dims};
  const OwnRows<A> queries = memory.own(0);
  const LaneRows<A> keys = memory.lanes(1, 0), values = memory.lanes(1, 1);
  A* weights = memory.weights(1, 0);
  queries.load(shape.dims, HeadRows<0, T>(qkv, shape, block.start, block.head, block.first, shape.length));
  A sums[warp_rows][R]{}, max[warp_rows], sum[warp_rows]{};
#pragma unroll
  for (int i = 0; i < warp_rows; ++i) max[i] = -INFINITY;
  const TileKeys seen = tiles[block.row * shape.tiles() + block.first / tile_queries];
  for (int begin = seen.some_first; begin < seen.some_last; begin += lane_rows) {
    __syncthreads();  // all have read the tile before, and its weights
    keys.template load<R>(shape.dims, HeadRows<1, T>(qkv, shape, block.start, block.head, begin, seen.some_last));
    values.template load<R>(shape.dims, HeadRows<2, T>(qkv, shape, block.start, block.head, begin, seen.some_last));
    __syncthreads();
    A scores[warp_rows]{};
    add_products(scores, queries, keys, shape.dims);
    const int key = begin + ptx::lane();
#pragma unroll
    for (int i = 0; i < warp_rows; ++i) {
      const int query = block.own_first + i;
      const bool sees = query < shape.length && ranges[block.start + query].sees(key);
      const A score = sees ? scores[i] * shape.score_scale : -INFINITY, next = larger(max[i], warp_max(score));
      const A rescale = max[i] == next ? A{1} : exponential(max[i] - next);  // nothing may have been seen yet
      A p = sees ? exponential(score - next) : A{0};
      sum[i] = sum[i] * rescale + p;
      max[i] = next;
      if (shape.dropout.threshold && sees) p *= shape.dropout.factor(shape.element(block.row, block.head, query, key));
#pragma unroll
      for (int r = 0; r < R; ++r) sums[i][r] *= rescale;
      scores[i] = p;
    }
    put_weights(weights, scores);
    __syncwarp();
    add_weighted(sums, weights, values, shape.dims);
  }
#pragma unroll
  for (int i = 0; i < warp_rows; ++i) {
    const int query = block.own_first + i;
    const A total = warp_sum(sum[i]), by = total > 0 ? 1 / total : A{0};  // outside every window: zeros
    if (query >= shape.length) continue;
    store_dims(out + ((block.start + query) * shape.heads + block.head) * shape.dims, sums[i], shape.dims, by);
    if (log_sum && ptx::lane() == 0) log_sum[(std::int64_t{block.row} * shape.heads + block.head) * shape.length + query] = total > 0 ? max[i] + logarithm(total) : A{0};
  }
}

/// Whether there can be such blocks on this device.
template <class T>
bool fits_tiles(const Device& device, const AttentionShape<T>& shape, std::size_t bytes) {
  return bytes <= device.shared_bytes() && shape.rows <= most_blocks_across && shape.heads <= most_blocks_across;
}

/// Starts the forward; false where it cannot run on this device.
template <int HeadDim, class T>
bool start_tiled(Device& device, T* out, accumulate_t<T>* log_sum, const T* qkv, const Visible& visible, const AttentionShape<T>& shape) {
  const std::size_t bytes = TiledMemory<accumulate_t<T>>{shape.dims}.bytes(1, 1);
  if (!fits_tiles(device, shape, bytes)) return false;
  launch(device, tiled_launch("attend_tiled", shape, shape.heads, bytes), attend_tiled_kernel<T, HeadDim>, out, log_sum, qkv, visible.ranges.data, visible.tiles.data, shape);
  return true;
}

}  // namespace golem::cuda
