// What the two kernels of attention's backward on sm_90a share: tiles that stay and tiles that pass by, and what is made of their products.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>

#include <cstdint>

#include "golem/cuda/attention_mask.cuh"
#include "golem/cuda/attention_shape.cuh"
#include "golem/cuda/attention_tile.cuh"
#include "golem/cuda/box_tile.cuh"
#include "golem/cuda/tile_ring.cuh"

namespace golem::cuda {

/// Rows of the tiles that pass by: of keys, in d query, and of queries, in d key.
inline constexpr int passing_rows = 64;

/// A block's shared memory: what is its own, of queries and dout or of keys and values, and what passes by, of the other two.
template <class T, int HeadDim>
struct BackwardMemory {
  static constexpr int stages = 3;
  TileRing<BoxTile<T, block_rows, HeadDim>, 1> own_first, own_second;
  TileRing<BoxTile<T, passing_rows, HeadDim>, stages> first, second;

  __device__ void init() {
    own_first.init(), own_second.init(), first.init(), second.init();
    ptx::show_shared_writes();
  }
};

/// Where the three tensors that are fetched lie: qkv (B, T, G (S + 2), D), dqkv with the scaled queries in d query's place, dout (B, T, H, D).
struct BackwardTensors {
  CUtensorMap qkv, queries, dout;
};

/// Asks for the two products that a tile begins with, each in a group of its own: a first (64, passing_rows) of rows of own_first with
/// tile t of `first`, and likewise of the second.
template <class T, int HeadDim>
__device__ void multiply_both_async(float (&a)[passing_rows / 8][4], float (&b)[passing_rows / 8][4], BackwardMemory<T, HeadDim>& memory, int first_row, int t) {
  memory.first.wait(t);
  ptx::settle(a);
  ptx::settle(b);
  ptx::begin_products();
  multiply_transposed_async(a, memory.own_first.at(0), first_row, memory.first.at(t));
  ptx::commit_products();
  memory.second.wait(t);
  ptx::begin_products();
  multiply_transposed_async(b, memory.own_second.at(0), first_row, memory.second.at(t));
  ptx::commit_products();
}

/// s (64, 8 Columns) of probabilities as the left side of a product, those that dropout keeps grown.
template <class T, int Columns>
__device__ void pack_kept(std::uint32_t (&left)[Columns / 2][4], const float (&s)[Columns][4], const ProbabilityDropout<float>& dropout, std::uint32_t kept) {
  if (!dropout.threshold) return pack_left<T>(left, s);
  const auto grown = [&](int n, int e) { return kept >> (4 * n + e) & 1 ? s[n][e] * dropout.kept : 0.0f; };
#pragma unroll
  for (int n = 0; n < Columns; ++n)
#pragma unroll
    for (int half = 0; half < 2; ++half) left[n / 2][n % 2 * 2 + half] = ptx::pack<T>(grown(n, 2 * half), grown(n, 2 * half + 1));
}

/// d scores, from d probabilities behind dropout and the probabilities before it; c[n][e] is of a query whose dot product of dout and
/// out is delta_of(n, e).
template <int Columns, class DeltaOf>
__device__ void differentiate_kept(float (&ds)[Columns][4], const float (&p)[Columns][4], const ProbabilityDropout<float>& dropout, std::uint32_t kept, const DeltaOf& delta_of) {
  if (dropout.threshold) {
#pragma unroll
    for (int n = 0; n < Columns; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) ds[n][e] *= kept >> (4 * n + e) & 1 ? dropout.kept : 0.0f;
  }
#pragma unroll
  for (int n = 0; n < Columns; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) ds[n][e] = p[n][e] * (ds[n][e] - delta_of(n, e));
}

}  // namespace golem::cuda
