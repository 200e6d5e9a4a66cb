// Tiles that pass through a few places of a block's shared memory, fetched by one thread and read by warps; for sm_90a.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>

#include <cstddef>

#include "golem/core/math.hpp"
#include "golem/cuda/architecture.hpp"
#include "golem/cuda/attention_mask.cuh"
#include "golem/cuda/box_tile.cuh"

namespace golem::cuda {

/// Of a block of a kernel of sm_90a: the warpgroups that multiply, behind the one that fetches; and of these, the rows that are theirs.
inline constexpr int reading_warpgroups = 2, warpgroup_rows = tile_queries, block_rows = reading_warpgroups * warpgroup_rows;

/// Registers of a thread that fetches, and of one that multiplies. A block trades those that its threads start with, and no others: a
/// warpgroup that asks for more waits for ever.
inline constexpr int fetching_registers = 24, multiplying_registers = 240;
static_assert(fetching_registers + reading_warpgroups * multiplying_registers <= (1 + reading_warpgroups) * sm_90a::start_registers);

/// Which warpgroup of the block this is, read off lane 0, so that the compiler knows that a warp goes one way.
__device__ inline int warpgroup() { return ptx::shuffle(static_cast<int>(threadIdx.x) / 128, 0); }

/// Tiles 0, 1, 2, ... of one tensor, of which `Stages` are there at a time.
template <class BoxTileOfT, int Stages>
struct TileRing {
  using Tile = BoxTileOfT;
  alignas(box_alignment) typename Tile::Element data[Stages][Tile::elements];
  ptx::PhaseBarrier full[Stages], empty[Stages];

  /// By one thread, before all others; `show_shared_writes` behind it.
  __device__ void init() {
    for (int i = 0; i < Stages; ++i) ptx::init_barrier(full[i], 1), ptx::init_barrier(empty[i], 4 * reading_warpgroups);
  }
  __device__ Tile at(int t) { return {data[t % Stages]}; }
  /// Fetches tile t once its place is free: rows `token` on of part `part` of row `row` of the batch. By one thread, for one t after the other.
  __device__ void fetch(int t, const CUtensorMap& tensor, int part, int token, int row) {
    ptx::wait_for_phase(empty[t % Stages], (t / Stages + 1) % 2);
    ptx::arrive_and_expect(full[t % Stages], Tile::bytes);
    at(t).load(tensor, part, token, row, full[t % Stages]);
  }
  /// Until tile t is there.
  __device__ void wait(int t) { ptx::wait_for_phase(full[t % Stages], t / Stages % 2); }
  /// This warp of the multiplying ones, whose lanes have met in its products, has read tile t. Each says so of each t.
  __device__ void leave(int t) {
    if (ptx::lane() == 0) ptx::arrive(empty[t % Stages]);
  }
  /// Tile t is of no use to this warp.
  __device__ void pass(int t) {
    wait(t);
    __syncwarp();  // a lane that lags could miss the next phase
    leave(t);
  }
};

/// The first multiple of box_alignment in a block's shared memory, which has sizeof(Memory) + box_alignment bytes.
template <class Memory>
__device__ Memory& aligned_shared() {
  unsigned char* start = dynamic_shared<unsigned char>();
  return *reinterpret_cast<Memory*>(start + (0u - ptx::shared_address(start)) % box_alignment);
}

/// The tiles of keys, of `rows` each, that a block of queries fetches, and which of them a warpgroup's queries see.
struct KeyTiles {
  int first_key, count, first_seen, end_seen;

  __device__ static bool none(const TileKeys& keys) { return keys.some_first >= keys.some_last; }
  /// `a` and `b` are what the two warpgroups' queries see, `own` one of the two.
  __device__ KeyTiles(const TileKeys& a, const TileKeys& b, const TileKeys& own, int rows)
      : first_key(none(a) ? b.some_first : none(b) ? a.some_first : smaller(a.some_first, b.some_first)), count(0), first_seen(0), end_seen(0) {
    const int last = none(a) ? b.some_last : none(b) ? a.some_last : larger(a.some_last, b.some_last);
    if (first_key < last) count = ceil_div(last - first_key, rows);
    if (!none(own)) first_seen = (own.some_first - first_key) / rows, end_seen = ceil_div(own.some_last - first_key, rows);
  }
};

/// What the queries [64 tile, 64 tile + 64) of a row see: nothing where there are none.
__device__ inline TileKeys visible_of(const TileKeys* tiles, int row, int tile, int tile_count) {
  return tile < tile_count ? tiles[std::int64_t{row} * tile_count + tile] : TileKeys{};
}

/// Scales and rounds a warpgroup's rows [row, row + 64) of a tile where they lie, so that products take them so.
template <class T, int Rows, int HeadDim>
__device__ void scale_rows_of(BoxTile<T, Rows, HeadDim> tile, int row, float scale, int warpgroup) {
  for (int box = 0; box < HeadDim / box_columns; ++box)
    for (int i = static_cast<int>(threadIdx.x) % 128; i < warpgroup_rows * box_columns / 8; i += 128) {
      T* place = tile.data + (box * Rows + row) * box_columns + 8 * i;
      float x[8];
      load(x, place);
#pragma unroll
      for (int w = 0; w < 8; ++w) x[w] *= scale;
      store(place, x);
    }
  ptx::show_shared_writes();
  ptx::meet(1 + warpgroup, 128);
}

}  // namespace golem::cuda
