// Tiles of 16-bit elements in shared memory, and the products of a warp over them, by matrix instructions.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

/// Keys of a tile, and queries of one in the forward.
inline constexpr int tile_keys = 64;

/// Rows of HeadDim elements, in chunks of 8 that lie swizzled: those of eight neighbouring rows are in eight different banks.
template <class T, int HeadDim>
struct SharedTile {
  static_assert(HeadDim % 64 == 0, "golem: a tile's rows are whole groups of eight chunks");
  T* data;

  __device__ T* at(int row, int column) const { return data + row * HeadDim + ((column / 8) ^ (row & 7)) * 8 + column % 8; }
};

/// Starts to copy `rows` rows, of which `valid` are there, of `dims` elements; the rest of the tile becomes zeros.
template <class T, int HeadDim>
__device__ void load_tile(SharedTile<T, HeadDim> tile, const T* from, std::int64_t step, int rows, int valid, int dims) {
  for (int chunk = static_cast<int>(threadIdx.x); chunk < rows * (HeadDim / 8); chunk += static_cast<int>(blockDim.x)) {
    const int row = chunk / (HeadDim / 8), column = chunk % (HeadDim / 8) * 8;
    if (row < valid && column < dims) {
      ptx::copy_async(tile.at(row, column), from + row * step + column);
    } else {
      const float zeros[8]{};
      store(tile.at(row, column), zeros);
    }
  }
}

/// Scales what this thread loaded with load_tile, and has waited for.
template <class T, int HeadDim>
__device__ void scale_tile(SharedTile<T, HeadDim> tile, int rows, float scale) {
  for (int chunk = static_cast<int>(threadIdx.x); chunk < rows * (HeadDim / 8); chunk += static_cast<int>(blockDim.x)) {
    T* place = tile.at(chunk / (HeadDim / 8), chunk % (HeadDim / 8) * 8);
    float x[8];
    load(x, place);
#pragma unroll
    for (int w = 0; w < 8; ++w) x[w] *= scale;
    store(place, x);
  }
}

/// c (16, 8 Columns) += a bT over `dims`: a is rows [row, row + 16) of its tile, b all rows of its own.
template <class T, int HeadDim, int Columns>
__device__ void multiply_transposed(float (&c)[Columns][4], SharedTile<T, HeadDim> a, int row, SharedTile<T, HeadDim> b, int dims) {
  const int lane = ptx::lane();
#pragma unroll
  for (int k = 0; k < HeadDim; k += 16) {
    if (k >= dims) break;
    std::uint32_t left[4], right[4];
    ptx::load_matrices(left, a.at(row + lane % 16, k + lane / 16 * 8));
#pragma unroll
    for (int n = 0; n < Columns; n += 2) {
      ptx::load_matrices(right, b.at(8 * n + lane / 16 * 8 + lane % 8, k + lane / 8 % 2 * 8));
      const std::uint32_t first[2]{right[0], right[1]}, second[2]{right[2], right[3]};
      ptx::multiply_add<T>(c[n], left, first);
      ptx::multiply_add<T>(c[n + 1], left, second);
    }
  }
}

/// The sums of a product as the left side of the next: (16, 16 Steps) rounded to T.
template <class T, int Columns>
__device__ void pack_left(std::uint32_t (&a)[Columns / 2][4], const float (&c)[Columns][4]) {
#pragma unroll
  for (int j = 0; j < Columns / 2; ++j) {
    a[j][0] = ptx::pack<T>(c[2 * j][0], c[2 * j][1]);
    a[j][1] = ptx::pack<T>(c[2 * j][2], c[2 * j][3]);
    a[j][2] = ptx::pack<T>(c[2 * j + 1][0], c[2 * j + 1][1]);
    a[j][3] = ptx::pack<T>(c[2 * j + 1][2], c[2 * j + 1][3]);
  }
}

/// c (16, 8 Columns) += a b: a (16, 16 Steps) in registers, b's rows are what is summed over, its columns [column, dims).
template <class T, int HeadDim, int Steps, int Columns>
__device__ void multiply_plain(float (&c)[Columns][4], const std::uint32_t (&a)[Steps][4], SharedTile<T, HeadDim> b, int column, int dims) {
  const int lane = ptx::lane();
#pragma unroll
  for (int n = 0; n < Columns; n += 2) {
    if (column + 8 * n >= dims) break;
#pragma unroll
    for (int j = 0; j < Steps; ++j) {
      std::uint32_t right[4];
      ptx::load_matrices_transposed(right, b.at(16 * j + lane % 16, column + 8 * n + lane / 16 * 8));
      const std::uint32_t first[2]{right[0], right[1]}, second[2]{right[2], right[3]};
      ptx::multiply_add<T>(c[n], a[j], first);
      ptx::multiply_add<T>(c[n + 1], a[j], second);
    }
  }
}

/// Stores columns of a product, times `scale` of each half: element (lane / 4, 0) is at `upper`, (lane / 4 + 8, 0) at
/// `lower`; a null pointer takes none.
template <class T, int Columns>
__device__ void store_product(T* upper, T* lower, const float (&c)[Columns][4], float upper_scale, float lower_scale, int dims) {
  const int pair = 2 * (ptx::lane() % 4);
#pragma unroll
  for (int n = 0; n < Columns; ++n) {
    if (8 * n >= dims) break;
    if (upper) *reinterpret_cast<std::uint32_t*>(upper + 8 * n + pair) = ptx::pack<T>(c[n][0] * upper_scale, c[n][1] * upper_scale);
    if (lower) *reinterpret_cast<std::uint32_t*>(lower + 8 * n + pair) = ptx::pack<T>(c[n][2] * lower_scale, c[n][3] * lower_scale);
  }
}

}  // namespace golem::cuda
