// The kernels that attention is made of, over tiles of 64 keys by 64 queries: products, softmax, its gradient, and rows in and out.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "golem/cpu/simd_exp.hpp"

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

/// A tile of scores (keys, queries), and which of its keys the queries see: lane i those with first[i] <= key + row < last[i], and
/// those of its context, where there are any. Where `first` is null, all.
template <class A>
struct ScoreTile {
  A* scores;
  std::int64_t keys, queries;  // queries: the row step as well
  std::int64_t key;            // of the first row
  const lane_integer_t<A>*first, *last;
  A scale;
  const lane_integer_t<A>*context_first = nullptr, *context_last = nullptr;

  template <class V>
  [[gnu::always_inline]] inline void hide(V& score, std::int64_t row, std::int64_t column, A hidden) const {
    V otherwise = V{} + hidden;
    if (context_first) choose(otherwise, score, otherwise, context_first + column, context_last + column, row);
    choose(score, score, otherwise, first + column, last + column, row);
  }

  /// to = inside where the key of `row` is in [begin, end), else outside.
  template <class V>
  [[gnu::always_inline]] inline void choose(V& to, const V& inside, const V& outside, const lane_integer_t<A>* begins, const lane_integer_t<A>* ends, std::int64_t row) const {
    using Unsigned = Lanes<std::make_unsigned_t<lane_integer_t<A>>, sizeof(V)>;
    IntegerLanes<V> begin, end;
    load(begin, begins);
    load(end, ends);
    const auto at = static_cast<lane_integer_t<A>>(key + row);
    to = (Unsigned)(at - begin) < (Unsigned)(end - begin) ? inside : outside;  // one comparison: g++ 12 makes scalar code of two
  }
};

/// One step of the online softmax: scores become exp(score * scale - maximum), the running maximum and sum of each query move
/// on, and `rescale` is what earlier sums and outputs must be multiplied by.
struct SoftmaxTile {
  template <int width, class A>
  [[gnu::always_inline]] static inline void run(ScoreTile<A> tile, A* maximum, A* sum, A* rescale) {
    using V = Lanes<A, width>;
    constexpr int n = lane_count<V>, vectors = width == 64 ? 4 : 2;
    for (std::int64_t column = 0; column < tile.queries; column += vectors * n) {
      V top[vectors], total[vectors];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) top[v] = V{} - std::numeric_limits<A>::infinity();
      for (std::int64_t row = 0; row < tile.keys; ++row) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
          A* const at = tile.scores + row * tile.queries + column + v * n;
          V score;
          load(score, at);
          if (tile.first) {
            tile.hide(score, row, column + v * n, -std::numeric_limits<A>::infinity());
            store(at, score);
          }
          top[v] = score > top[v] ? score : top[v];
        }
      }
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        V before, factor, earlier;
        load(before, maximum + column + v * n);
        load(earlier, sum + column + v * n);
        top[v] *= tile.scale;
        top[v] = top[v] > before ? top[v] : before;
        factor = before - top[v];
        exponentiate(factor);
        total[v] = earlier * factor;
        store(maximum + column + v * n, top[v]);
        store(rescale + column + v * n, factor);
      }
      for (std::int64_t row = 0; row < tile.keys; ++row) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) {
          A* const at = tile.scores + row * tile.queries + column + v * n;
          V p;
          load(p, at);
          p = p * tile.scale - top[v];
          exponentiate(p);
          total[v] += p;
          store(at, p);
        }
      }
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) store(sum + column + v * n, total[v]);
    }
  }
};

/// Scores become probabilities p = exp(score * scale - log_sum), and `gradient`, which is that of the probabilities, becomes
/// that of the scores, p * (gradient - delta). Where `kept` is given (dropout: 0 or 1 / (1 - rate)), it multiplies the
/// gradient before and the probabilities after.
struct SoftmaxGradientTile {
  template <int width, class A>
  [[gnu::always_inline]] static inline void run(ScoreTile<A> tile, A* gradient, const A* log_sum, const A* delta, const A* kept) {
    using V = Lanes<A, width>;
    constexpr int n = lane_count<V>;
    for (std::int64_t column = 0; column < tile.queries; column += n) {
      V shift, mean;
      load(shift, log_sum + column);
      load(mean, delta + column);
      for (std::int64_t row = 0; row < tile.keys; ++row) {
        const std::int64_t at = row * tile.queries + column;
        V p, dp;
        load(p, tile.scores + at);
        load(dp, gradient + at);
        p = p * tile.scale - shift;
        exponentiate(p);
        if (tile.first) tile.hide(p, row, column, 0);
        if (kept) {
          V keep;
          load(keep, kept + at);
          store(gradient + at, p * (dp * keep - mean));
          store(tile.scores + at, p * keep);
        } else {
          store(gradient + at, p * (dp - mean));
          store(tile.scores + at, p);
        }
      }
    }
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
