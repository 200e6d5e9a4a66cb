// Tiles of 16-bit elements in shared memory, and the products of a warp over them, by matrix instructions.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

/// Threads of a block of the kernels of sm_80: four warps.
inline constexpr int matrix_threads = 128;

/// Rows of HeadDim elements, in chunks of 8 that lie swizzled: those of eight neighbouring rows are in eight different banks.
template <class T, int HeadDim>
struct SharedTile {
  static_assert(HeadDim % 64 == 0, "golem: a tile's rows are whole groups of eight chunks");
  T* data;

  __device__ T* at(int row, int column) const { return data + row * HeadDim + ((column / 8) ^ (row & 7)) * 8 + column % 8; }
  /// The rows from `row` on, a multiple of 8.
  __device__ SharedTile from_row(int row) const { return {data + row * HeadDim}; }
};

/// The place of this lane's row of four 8 x 8 matrices in a tile. All others are a constant away, but for the swizzle: an exclusive or.
template <int HeadDim>
struct LanePlace {
  int first;

  /// Matrices are two of rows, then the same 8 columns on: the left side of a product, or a right side whose rows are summed over.
  __device__ static LanePlace down_first() { return at(ptx::lane() % 16, ptx::lane() / 16); }
  /// Matrices are two of columns, then the same 8 rows on: a right side whose columns are summed over.
  __device__ static LanePlace right_first() { return at(ptx::lane() / 16 * 8 + ptx::lane() % 8, ptx::lane() / 8 % 2); }
  __device__ static LanePlace at(int row, int chunk) { return {row * HeadDim + (chunk ^ (row & 7)) * 8}; }

  /// The element's number in the tile of matrices that begin at (row, column), multiples of 8 and of 16.
  __device__ int at_matrices(int row, int column) const { return (first ^ column % 64) + column / 64 * 64 + row * HeadDim; }
};

/// From a tile's first element in global memory to the first that this thread loads; rows are `step` apart.
template <int HeadDim>
__device__ int own_chunk(int step) {
  return static_cast<int>(threadIdx.x) / (HeadDim / 8) * step + static_cast<int>(threadIdx.x) % (HeadDim / 8) * 8;
}

/// Starts to copy Rows rows, of which `valid` are there, of `dims` elements; the rest of the tile becomes zeros. `from` has own_chunk added
/// to it: a loop over tiles moves one pointer on.
template <int Rows, class T, int HeadDim>
__device__ void load_tile(SharedTile<T, HeadDim> tile, const T* from, int step, int valid, int dims) {
  constexpr int chunks = HeadDim / 8, pass = matrix_threads / chunks;
  static_assert(Rows % pass == 0, "golem: a block loads whole passes of rows");
  const int first = static_cast<int>(threadIdx.x) / chunks, column = static_cast<int>(threadIdx.x) % chunks * 8;
  if (((valid - Rows) | (dims - HeadDim)) >= 0) {  // the tile is whole
#pragma unroll
    for (int row = 0; row < Rows; row += pass, from += pass * step) ptx::copy_async(tile.at(first + row, column), from);
    return;
  }
#pragma unroll 1
  for (int row = first; row < Rows; row += pass, from += pass * step) {
    if (row < valid && column < dims) {
      ptx::copy_async(tile.at(row, column), from);
    } else {
      const float zeros[8]{};
      store(tile.at(row, column), zeros);
    }
  }
}

/// Scales what this thread loaded with load_tile, and has waited for.
template <int Rows, class T, int HeadDim>
__device__ void scale_tile(SharedTile<T, HeadDim> tile, float scale) {
#pragma unroll 1
  for (int chunk = static_cast<int>(threadIdx.x); chunk < Rows * (HeadDim / 8); chunk += matrix_threads) {
    T* place = tile.at(chunk / (HeadDim / 8), chunk % (HeadDim / 8) * 8);
    float x[8];
    load(x, place);
#pragma unroll
    for (int w = 0; w < 8; ++w) x[w] *= scale;
    store(place, x);
  }
}

/// c (16 Fragments, 8 Columns) += a bT over HeadDim: a and b are rows of their tiles. What is loaded of b serves each fragment of 16 rows.
template <class T, int HeadDim, int Fragments, int Columns>
__device__ void multiply_transposed(float (&c)[Fragments][Columns][4], SharedTile<T, HeadDim> a, SharedTile<T, HeadDim> b) {
  const auto left_place = LanePlace<HeadDim>::down_first(), right_place = LanePlace<HeadDim>::right_first();
#pragma unroll
  for (int k = 0; k < HeadDim; k += 16) {
    std::uint32_t left[Fragments][4];
#pragma unroll
    for (int f = 0; f < Fragments; ++f) ptx::load_matrices(left[f], a.data + left_place.at_matrices(16 * f, k));
#pragma unroll
    for (int n = 0; n < Columns; n += 2) {
      std::uint32_t right[4];
      ptx::load_matrices(right, b.data + right_place.at_matrices(8 * n, k));
      const std::uint32_t first[2]{right[0], right[1]}, second[2]{right[2], right[3]};
#pragma unroll
      for (int f = 0; f < Fragments; ++f) {
        ptx::multiply_add<T>(c[f][n], left[f], first);
        ptx::multiply_add<T>(c[f][n + 1], left[f], second);
      }
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

/// c (16 Fragments, 8 Columns) += a b: a (16 Fragments, 16 Steps) in registers, b's rows are what is summed over, its columns those from
/// `column` on, a multiple of 64. Products that follow each other add to different sums, as each takes long to end.
template <class T, int HeadDim, int Fragments, int Steps, int Columns>
__device__ void multiply_plain(float (&c)[Fragments][Columns][4], const std::uint32_t (&a)[Fragments][Steps][4], SharedTile<T, HeadDim> b, int column = 0) {
  const auto place = LanePlace<HeadDim>::down_first();
  const T* from = b.data + column;
#pragma unroll
  for (int j = 0; j < Steps; ++j)
#pragma unroll
    for (int n = 0; n < Columns; n += 2) {
      std::uint32_t right[4];
      ptx::load_matrices_transposed(right, from + place.at_matrices(16 * j, 8 * n));
      const std::uint32_t first[2]{right[0], right[1]}, second[2]{right[2], right[3]};
#pragma unroll
      for (int f = 0; f < Fragments; ++f) {
        ptx::multiply_add<T>(c[f][n], a[f][j], first);
        ptx::multiply_add<T>(c[f][n + 1], a[f][j], second);
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
