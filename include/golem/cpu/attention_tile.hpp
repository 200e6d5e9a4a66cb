// Tiles of attention, 64 keys by 64 queries: their products, their transposes, and rows in and out.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/cpu/simd.hpp"

namespace golem::cpu {

/// What a product does with what is in its place.
enum class Into : std::uint8_t {
  fresh,     // c = a b
  sum,       // c += a b
  rescaled,  // c = c * rescale + a b, with one factor for each column
};

/// Elements in two dims, either of which may be the contiguous one.
template <class A>
struct Strided {
  A* data;
  std::int64_t row, column = 1;  // steps, in elements
  Strided from(std::int64_t i, std::int64_t j) const { return {data + i * row + j * column, row, column}; }
  Strided transposed() const { return {data, column, row}; }
};

/// c (rows, columns) from a (rows, depth) and b (depth, columns); the rows of b and c are contiguous. `rows` is a multiple
/// of 4, `columns` of 16.
template <class A>
struct TileProduct {
  Strided<A> c, a, b;
  std::int64_t rows, columns, depth;
  Into into = Into::fresh;
  const A* rescale = nullptr;  // (columns)
};

/// Broadcasts elements of a over vectors of b: four rows by up to four vectors stay in registers.
struct MultiplyTile {
  static constexpr int block_rows = 4;

  template <int width, class A>
  [[gnu::always_inline]] static inline void run(const TileProduct<A>& p) {
    multiply_columns<width, width == 64 ? 4 : 2>(p, 0);
  }

 private:
  template <int width, int vectors, class A>
  [[gnu::always_inline]] static inline void multiply_columns(const TileProduct<A>& p, std::int64_t column) {
    constexpr std::int64_t block = vectors * lane_count<Lanes<A, width>>;
    for (; column + block <= p.columns; column += block)
      for (std::int64_t row = 0; row < p.rows; row += block_rows) multiply_block<width, vectors>(p, row, column);
    if constexpr (vectors > 1)
      if (column < p.columns) multiply_columns<width, vectors / 2>(p, column);
  }

  template <int width, int vectors, class A>
  [[gnu::always_inline]] static inline void multiply_block(const TileProduct<A>& p, std::int64_t row, std::int64_t column) {
    using V = Lanes<A, width>;
    constexpr int n = lane_count<V>;
    A* const c = p.c.data + row * p.c.row + column;
    V sum[block_rows][vectors];
#pragma GCC unroll 4
    for (int r = 0; r < block_rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sum[r][v] = V{};
    if (p.into != Into::fresh)
#pragma GCC unroll 4
      for (int r = 0; r < block_rows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) load(sum[r][v], c + r * p.c.row + v * n);
    if (p.into == Into::rescaled)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        V factor;
        load(factor, p.rescale + column + v * n);
#pragma GCC unroll 4
        for (int r = 0; r < block_rows; ++r) sum[r][v] *= factor;
      }
    const A* a = p.a.data + row * p.a.row;
    const A* b = p.b.data + column;
    for (std::int64_t k = 0; k < p.depth; ++k, a += p.a.column, b += p.b.row) {
      V x[vectors];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) load(x[v], b + v * n);
#pragma GCC unroll 4
      for (int r = 0; r < block_rows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) sum[r][v] += a[r * p.a.row] * x[v];
    }
#pragma GCC unroll 4
    for (int r = 0; r < block_rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) store(c + r * p.c.row + v * n, sum[r][v]);
  }
};

/// to (columns, rows) = from (rows, columns) transposed; both counts are multiples of 16.
struct TransposeTile {
  template <int width, class A>
  [[gnu::always_inline]] static inline void run(A* to, std::int64_t to_row, const A* from, std::int64_t from_row, std::int64_t rows,
                                                std::int64_t columns) {
    using V = Lanes<A, width>;
    constexpr int n = lane_count<V>;
    for (std::int64_t row = 0; row < rows; row += n)
      for (std::int64_t column = 0; column < columns; column += n) {
        V square[n];
#pragma GCC unroll 16
        for (int i = 0; i < n; ++i) load(square[i], from + (row + i) * from_row + column);
        transpose(square);
#pragma GCC unroll 16
        for (int i = 0; i < n; ++i) store(to + (column + i) * to_row + row, square[i]);
      }
  }
};

/// to (rows, width) = from (rows, dims) times `factor`, rounded to T; columns from dims to width, and rows from `rows` to
/// `padded_rows`, become zero.
template <class T>
struct RowsIn {
  accumulate_t<T>* to;
  std::int64_t width;
  const T* from;
  std::int64_t from_row, rows, padded_rows, dims;
  accumulate_t<T> factor = 1;
};

struct LoadRows {
  static constexpr std::int64_t ahead_rows = 64;  // the next tile: its rows lie too far apart for the machine to guess

  template <int bytes, class T>
  [[gnu::always_inline]] static inline void run(const RowsIn<T>& in) {
    using A = accumulate_t<T>;
    using V = Lanes<A, bytes>;
    constexpr int n = lane_count<V>;
    for (std::int64_t row = 0; row < in.padded_rows; ++row) {
      A* const to = in.to + row * in.width;
      const T* const from = in.from + row * in.from_row;
      const std::int64_t dims = row < in.rows ? in.dims : 0;
      std::int64_t d = 0;
      for (; d + n <= dims; d += n) {
        V x;
        __builtin_prefetch(from + ahead_rows * in.from_row + d, 0, 2);
        load(x, from + d);
        if (in.factor != 1) {
          x *= in.factor;
          round_to<T>(x);
        }
        store(to + d, x);
      }
      for (; d < dims; ++d) to[d] = static_cast<A>(static_cast<T>(static_cast<A>(from[d]) * in.factor));
      for (; d < in.width; ++d) to[d] = 0;
    }
  }
};

/// to (rows, dims) = from (rows, width) times `factor`, and times that of the row where `factors` are given.
template <class T>
struct RowsOut {
  T* to;
  std::int64_t to_row;
  const accumulate_t<T>* from;
  std::int64_t width, rows, dims;
  accumulate_t<T> factor = 1;
  const accumulate_t<T>* factors = nullptr;  // (rows)
};

struct StoreRows {
  template <int bytes, class T>
  [[gnu::always_inline]] static inline void run(const RowsOut<T>& out) {
    using A = accumulate_t<T>;
    using V = Lanes<A, bytes>;
    constexpr int n = lane_count<V>;
    for (std::int64_t row = 0; row < out.rows; ++row) {
      const A* const from = out.from + row * out.width;
      T* const to = out.to + row * out.to_row;
      const A factor = out.factors ? out.factor * out.factors[row] : out.factor;
      std::int64_t d = 0;
      for (; d + n <= out.dims; d += n) {
        V x;
        load(x, from + d);
        x *= factor;
        store(to + d, x);
      }
      for (; d < out.dims; ++d) to[d] = static_cast<T>(from[d] * factor);
    }
  }
};

}  // namespace golem::cpu
