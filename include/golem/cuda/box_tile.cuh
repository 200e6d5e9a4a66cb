// Tiles of 16-bit elements in shared memory as boxes of a tensor arrive there, and the products of a warpgroup over them; for sm_90a.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>

#include <cstdint>

#include "golem/core/annotate.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/ptx_sm90.cuh"
#include "golem/cuda/ptx_wgmma.cuh"
#include "golem/cuda/tensor_map.hpp"

namespace golem::cuda {

/// A box: its columns are 128 bytes of elements, in which the eight chunks of row r lie in the order chunk ^ r % 8. Products and
/// copies both tell r by the address, so that a box begins at a multiple of box_alignment.
inline constexpr int box_columns = 64, box_rows = 64;
inline constexpr unsigned box_row_bytes = 128, box_alignment = 8 * box_row_bytes;

/// How a product finds 16-bit elements that lie in boxes (PTX ISA, matrix descriptor): rows of 128 bytes with 128-byte swizzle, each
/// eight rows 1024 bytes from the last. `far_bytes`: from a box to that with the next 64 columns, where the product's columns are
/// the box's; without meaning where they are its rows.
GOLEM_HD inline ptx::SharedMatrix describe_boxes(unsigned address, unsigned far_bytes) {
  constexpr std::uint64_t swizzle_128 = 1;
  const auto field = [](unsigned bytes) { return std::uint64_t{(bytes & 0x3ffffu) >> 4}; };
  return {field(address) | field(far_bytes) << 16 | field(box_alignment) << 32 | swizzle_128 << 62};
}

/// Rows of HeadDim elements, 64 columns a box.
template <class T, int Rows, int HeadDim>
struct BoxTile {
  static_assert(HeadDim % box_columns == 0 && Rows % box_rows == 0, "golem: a tile is whole boxes, and each has rows for a warpgroup");
  using Element = T;
  static constexpr int elements = Rows * HeadDim, bytes = elements * static_cast<int>(sizeof(T));
  static constexpr unsigned box_bytes = Rows * box_row_bytes;
  T* data;

  /// Starts to copy the rows from token `token` on of part `part` of row `row` of a tensor (B, T, parts, D); `bytes` arrive at the barrier.
  __device__ void load(const CUtensorMap& tensor, int part, int token, int row, ptx::PhaseBarrier& barrier) const {
#pragma unroll
    for (int box = 0; box < HeadDim / box_columns; ++box)
#pragma unroll
      for (int first = 0; first < Rows; first += box_rows) ptx::copy_box(data + (box * Rows + first) * box_columns, tensor, box * box_columns, part, token + first, row, barrier);
  }
  /// Rows from `row` on, columns [column, column + 16), by rows.
  __device__ ptx::SharedMatrix rows_at(int row, int column) const {
    return describe_boxes(ptx::shared_address(data) + column / box_columns * box_bytes + row * box_row_bytes + column % box_columns * sizeof(T), box_bytes);
  }
  /// Rows [row, row + 16), all columns, by columns.
  __device__ ptx::SharedMatrix columns_at(int row) const { return describe_boxes(ptx::shared_address(data) + row * box_row_bytes, box_bytes); }
};

/// c (64, Rows) = a bT over HeadDim: a is rows [row, row + 64) of its tile, b all rows of its own.
template <class T, int Columns, int ARows, int Rows, int HeadDim>
__device__ void multiply_transposed_async(float (&c)[Columns][4], BoxTile<T, ARows, HeadDim> a, int row, BoxTile<T, Rows, HeadDim> b) {
  static_assert(8 * Columns == Rows, "golem: a product has a column for each row of its right side");
#pragma unroll
  for (int k = 0; k < HeadDim; k += 16) ptx::multiply_rows_async<T>(c, a.rows_at(row, k), b.rows_at(0, k), k == 0 ? ptx::Sum::begins : ptx::Sum::goes_on);
}

/// c (64, HeadDim) += a b: a (64, 16 Steps) in registers, b's rows are what is summed over.
template <class T, int Columns, int Steps, int HeadDim>
__device__ void multiply_plain_async(float (&c)[Columns][4], const std::uint32_t (&a)[Steps][4], BoxTile<T, 16 * Steps, HeadDim> b) {
  static_assert(8 * Columns == HeadDim, "golem: a product has a column for each column of its right side");
#pragma unroll
  for (int j = 0; j < Steps; ++j) ptx::multiply_columns_async<T>(c, a[j], b.columns_at(16 * j));
}

/// Describes a tensor (B, T, parts, D) for `load`.
template <class T>
CUtensorMap describe_for_tiles(const T* data, std::int64_t rows, std::int64_t length, std::int64_t parts, std::int64_t dims) {
  return describe_tensor(View<const T, 4>(data, rows, length, parts, dims), {1, box_rows, 1, box_columns});
}

}  // namespace golem::cuda
