// The forward of attention on sm_90a: one warpgroup fetches keys and values, two take 64 queries each, and products run beside the softmax.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "golem/core/math.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/architecture.hpp"
#include "golem/cuda/attention_forward.cuh"
#include "golem/cuda/attention_mask.cuh"
#include "golem/cuda/attention_plain.cuh"
#include "golem/cuda/attention_tile.cuh"
#include "golem/cuda/box_tile.cuh"
#include "golem/cuda/tensor_map.hpp"

namespace golem::cuda {

/// Of a block of the sm_90a forward: warpgroups that multiply, and the rows of its tiles.
inline constexpr int sm90_consumers = 2, sm90_rows = sm90_consumers * tile_queries;

/// The widest heads that it takes: the sums of wider ones do not fit in registers.
inline constexpr int most_sm90_dims = 128;

/// What the copies and products of a tile of keys, or of values, wait for, for each of two stages.
struct StageBarriers {
  ptx::PhaseBarrier full[2], empty[2];
};

/// A block's shared memory, from the first multiple of box_alignment on.
template <class T, int HeadDim>
struct ForwardMemory {
  using Tile = BoxTile<T, sm90_rows, HeadDim>;
  T queries[Tile::elements], keys[2][Tile::elements], values[2][Tile::elements];
  ptx::PhaseBarrier queries_full;
  StageBarriers key_stages, value_stages;

  static constexpr std::size_t bytes() { return sizeof(ForwardMemory) + box_alignment; }
  __device__ static ForwardMemory& place() {
    unsigned char* start = dynamic_shared<unsigned char>();
    return *reinterpret_cast<ForwardMemory*>(start + (0u - ptx::shared_address(start)) % box_alignment);
  }
};

/// The tiles of keys that a block fetches, and which of them a warpgroup's 64 queries see.
struct KeyTiles {
  int first_key, count, first_seen, end_seen;

  __device__ static bool none(const TileKeys& keys) { return keys.some_first >= keys.some_last; }
  /// `a` and `b` are what the two warpgroups' queries see, `own` one of the two.
  __device__ KeyTiles(const TileKeys& a, const TileKeys& b, const TileKeys& own)
      : first_key(none(a) ? b.some_first : none(b) ? a.some_first : smaller(a.some_first, b.some_first)), count(0), first_seen(0), end_seen(0) {
    const int last = none(a) ? b.some_last : none(b) ? a.some_last : larger(a.some_last, b.some_last);
    if (first_key < last) count = ceil_div(last - first_key, sm90_rows);
    if (!none(own)) first_seen = (own.some_first - first_key) / sm90_rows, end_seen = ceil_div(own.some_last - first_key, sm90_rows);
  }
};

/// Fetches queries and tiles of keys and values, these as stages come free. One thread does it.
template <class T, int HeadDim>
__device__ void fetch_forward(ForwardMemory<T, HeadDim>& memory, const CUtensorMap& qkv, const KeyTiles& tiles, int head, int query, int row) {
  using Tile = BoxTile<T, sm90_rows, HeadDim>;
  ptx::arrive_and_expect(memory.queries_full, Tile::bytes);
  Tile{memory.queries}.load(qkv, 3 * head, query, row, memory.queries_full);
  const auto fetch = [&](StageBarriers& stages, T* to, int part, int t) {
    ptx::wait_for_phase(stages.empty[t % 2], (t / 2 + 1) % 2);
    ptx::arrive_and_expect(stages.full[t % 2], Tile::bytes);
    Tile{to}.load(qkv, 3 * head + part, tiles.first_key + t * sm90_rows, row, stages.full[t % 2]);
  };
  for (int t = 0; t < tiles.count; ++t) {
    fetch(memory.key_stages, memory.keys[t % 2], 1, t);
    fetch(memory.value_stages, memory.values[t % 2], 2, t);
  }
}

/// The 64 queries of a warpgroup: lanes hold the rows lane / 4 and lane / 4 + 8 of their warp's 16.
template <class T, int HeadDim>
struct WarpgroupQueries {
  using Tile = BoxTile<T, sm90_rows, HeadDim>;
  static constexpr int columns = sm90_rows / 8;
  ForwardMemory<T, HeadDim>& memory;
  const AttentionShape<T>& shape;
  TileKeys visible;
  int own[2], row, head, first_row;  // first_row: of the block's queries
  KeyRange range[2];
  OnlineSoftmax softmax;
  float o[HeadDim / 8][4];
  std::uint32_t p[columns / 2][4];

  /// Scales and rounds the queries where they lie, so that products can take them.
  __device__ void scale_queries(int consumer) const {
    ptx::wait_for_phase(memory.queries_full, 0);
    for (int box = 0; box < HeadDim / box_columns; ++box)
      for (int i = static_cast<int>(threadIdx.x) % 128; i < tile_queries * box_columns / 8; i += 128) {
        T* place = memory.queries + (box * sm90_rows + first_row) * box_columns + 8 * i;
        float x[8];
        load(x, place);
#pragma unroll
        for (int w = 0; w < 8; ++w) x[w] *= shape.query_scale;
        store(place, x);
      }
    ptx::show_shared_writes();
    ptx::meet(1 + consumer, 128);
  }
  /// Asks for the scores of tile t of keys.
  __device__ void score_async(float (&s)[columns][4], int t) const {
    ptx::wait_for_phase(memory.key_stages.full[t % 2], t / 2 % 2);
    ptx::settle(s);
    ptx::begin_products();
    multiply_transposed_async(s, Tile{memory.queries}, first_row, Tile{memory.keys[t % 2]});
    ptx::commit_products();
  }
  /// Asks for the sum of values of tile t, weighed by p.
  __device__ void add_values_async(int t) {
    ptx::wait_for_phase(memory.value_stages.full[t % 2], t / 2 % 2);
    ptx::settle(o);
    ptx::begin_products();
    multiply_plain_async(o, p, Tile{memory.values[t % 2]});
    ptx::commit_products();
  }
  /// This warp has read tile t.
  __device__ static void leave(StageBarriers& stages, int t) {
    if (ptx::lane() == 0) ptx::arrive(stages.empty[t % 2]);
  }
  /// Tile t is for the other warpgroup.
  __device__ void pass(int t) const {
    ptx::wait_for_phase(memory.key_stages.full[t % 2], t / 2 % 2);
    leave(memory.key_stages, t);
    ptx::wait_for_phase(memory.value_stages.full[t % 2], t / 2 % 2);
    leave(memory.value_stages, t);
  }
  /// Scores of the keys from `key` on become probabilities, before dropout.
  __device__ void soften(float (&s)[columns][4], float (&rescale)[2], int key) {
    if (!visible.see_all(key, sm90_rows)) {
#pragma unroll
      for (int n = 0; n < columns; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          if (!range[e / 2].sees(key + 8 * n + 2 * (ptx::lane() % 4) + e % 2)) s[n][e] = -INFINITY;
    }
    softmax.meet(s, rescale, shape.score_scale);
    if (!shape.dropout.threshold) return;
    std::uint64_t kept = 0;  // a bit for each of s
#pragma unroll 1
    for (int i = 0; i < 2 * columns; ++i) {  // a loop, as the draws are long code
      float factor[2];
      shape.dropout.factors(factor, shape.element(row, head, i % 2 ? own[1] : own[0], key + 8 * (i / 2) + 2 * (ptx::lane() % 4)));
      kept |= std::uint64_t{factor[0] != 0} << 2 * i | std::uint64_t{factor[1] != 0} << (2 * i + 1);
    }
#pragma unroll
    for (int n = 0; n < columns; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) s[n][e] *= kept >> (4 * n + e) & 1 ? shape.dropout.kept : 0.0f;
  }
  /// All tiles in turn: while the scores of one become probabilities, the values of the one before are summed.
  __device__ void attend(const KeyTiles& tiles) {
    const auto probabilities_of = [&](int t, float (&s)[columns][4], float (&rescale)[2]) {
      ptx::settle(s);
      leave(memory.key_stages, t);
      soften(s, rescale, tiles.first_key + t * sm90_rows);
    };
    float s[columns][4], rescale[2];
    for (int t = 0; t < tiles.first_seen; ++t) pass(t);
    if (tiles.first_seen < tiles.end_seen) {
      score_async(s, tiles.first_seen);
      ptx::wait_for_products<0>();
      probabilities_of(tiles.first_seen, s, rescale);
      pack_left<T>(p, s);
      for (int t = tiles.first_seen + 1; t < tiles.end_seen; ++t) {
        score_async(s, t);
        add_values_async(t - 1);
        ptx::wait_for_products<1>();
        probabilities_of(t, s, rescale);
        ptx::wait_for_products<0>();
        ptx::settle(o);
        leave(memory.value_stages, t - 1);
#pragma unroll
        for (int n = 0; n < HeadDim / 8; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) o[n][e] *= rescale[e / 2];
        pack_left<T>(p, s);
      }
      add_values_async(tiles.end_seen - 1);
      ptx::wait_for_products<0>();
      ptx::settle(o);
      leave(memory.value_stages, tiles.end_seen - 1);
    }
    for (int t = tiles.end_seen; t < tiles.count; ++t) pass(t);
  }
  /// Writes out (N, H, D) and log_sum (B, H, T), unless null.
  __device__ void finish(T* out, float* log_sum) const {
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
};

/// As attend_kernel; `qkv` says how the tensor lies, in boxes of 64 columns and sm90_rows tokens. A block takes sm90_rows queries of a head.
template <class T, int HeadDim>
__global__ void __launch_bounds__(128 * (1 + sm90_consumers), 1)
    attend_sm90_kernel(const __grid_constant__ CUtensorMap qkv, T* out, float* log_sum, const KeyRange* ranges, const TileKeys* tiles, AttentionShape<T> shape) {
  ForwardMemory<T, HeadDim>& memory = ForwardMemory<T, HeadDim>::place();
  const int warpgroup = static_cast<int>(threadIdx.x) / 128, head = static_cast<int>(blockIdx.y), row = static_cast<int>(blockIdx.z);
  const int query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * sm90_rows;  // long ones first
  const int tile_count = ceil_div(shape.length, tile_queries);
  const auto visible = [&](int consumer) {
    const int tile = query / tile_queries + consumer;
    return tile < tile_count ? tiles[std::int64_t{row} * tile_count + tile] : TileKeys{};
  };
  if (threadIdx.x == 0) {
    constexpr int readers = 4 * sm90_consumers;  // warps
    ptx::init_barrier(memory.queries_full, 1);
    for (StageBarriers* stages : {&memory.key_stages, &memory.value_stages})
      for (int i = 0; i < 2; ++i) ptx::init_barrier(stages->full[i], 1), ptx::init_barrier(stages->empty[i], readers);
    ptx::show_shared_writes();
  }
  __syncthreads();
  if (warpgroup == 0) {
    ptx::give_registers<24>();
    if (threadIdx.x == 0) fetch_forward(memory, qkv, KeyTiles(visible(0), visible(1), TileKeys{}), head, query, row);
  } else {
    ptx::take_registers<240>();
    const int consumer = warpgroup - 1, lane = ptx::lane();
    WarpgroupQueries<T, HeadDim> mine{.memory = memory, .shape = shape, .visible = visible(consumer), .own = {}, .row = row, .head = head, .first_row = consumer * tile_queries, .range = {}, .softmax = {}, .o = {}, .p = {}};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      mine.own[half] = query + mine.first_row + static_cast<int>(threadIdx.x) % 128 / 32 * 16 + lane / 4 + 8 * half;
      if (mine.own[half] < shape.length) mine.range[half] = ranges[std::int64_t{row} * shape.length + mine.own[half]];
    }
    mine.scale_queries(consumer);
    mine.attend(KeyTiles(visible(0), visible(1), mine.visible));
    mine.finish(out, log_sum);
  }
}

/// Starts the forward of sm_90a; false where it was not asked for, or cannot run on this device.
template <int HeadDim, class T>
bool start_forward(sm_90a, Device& device, const AttentionCall<T>& call) {
  constexpr std::size_t bytes = ForwardMemory<T, HeadDim>::bytes();
  const AttentionShape<T>& shape = call.shape;
  if (!has_matrix_path<T>(device, shape.dims, bytes) || !takes_sm_90a(device, "attend_sm90", attend_sm90_kernel<T, HeadDim>)) return false;
  const CUtensorMap qkv = describe_tensor(View<const T, 4>(call.qkv.data, shape.rows, shape.length, 3 * shape.heads, shape.dims), {1, sm90_rows, 1, box_columns});
  const Launch how{.name = "attend_sm90", .blocks = ceil_div(shape.length, sm90_rows), .threads = 128 * (1 + sm90_consumers), .shared_bytes = bytes, .blocks_y = shape.heads, .blocks_z = shape.rows};
  launch(device, how, attend_sm90_kernel<T, HeadDim>, qkv, call.out, call.log_sum, call.visible.ranges.data, call.visible.tiles.data, shape);
  return true;
}

}  // namespace golem::cuda
