// Slices: which part of a full tensor lies in memory, what two of them share, and the proof that some cover another.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "golem/core/error.hpp"

namespace golem {

/// A tensor as a matrix: dim 0 makes its rows, all others together its columns. A vector has one column, a number is 1 x 1.
struct MatrixExtent {
  std::int64_t rows = 1, columns = 1;
  std::int64_t size() const { return rows * columns; }
};

/// Throws Error that begins with `where` for a negative dim and for more elements than 63 bits count.
inline MatrixExtent matrix_extent(const std::vector<std::int64_t>& shape, std::string_view where) {
  MatrixExtent extent;
  bool fits = true;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    require(shape[i] >= 0, where, ": a dim is ", shape[i]);
    std::int64_t& side = i == 0 ? extent.rows : extent.columns;
    fits = fits && !__builtin_mul_overflow(side, shape[i], &side);
  }
  std::int64_t size = 0;
  fits = fits && !__builtin_mul_overflow(extent.rows, extent.columns, &size);
  require(fits, where, ": the shape has more elements than any memory can hold");
  return extent;
}

/// Which part of a full tensor a rank has in memory: the rows of up to two runs (a vector's rows are its elements), of each
/// the columns of one run; and of the elements that these make, one after the other, those of one run.
struct Slice {
  struct Run {
    std::int64_t begin = 0, count = 0;
    std::int64_t end() const { return begin + count; }
    friend bool operator==(const Run&, const Run&) = default;
  };
  Run rows[2] = {};
  Run columns = {0, 1};
  Run elements = {};

  std::int64_t size() const { return elements.count; }
  /// Elements of its rows and columns, whichever run of them is here.
  std::int64_t outline() const { return (rows[0].count + rows[1].count) * columns.count; }
  friend bool operator==(const Slice&, const Slice&) = default;
};

inline Slice whole_slice(const MatrixExtent& extent) { return {{{0, extent.rows}, {}}, {0, extent.columns}, {0, extent.size()}}; }

/// Whether a slice is the whole tensor, in the tensor's own order.
inline bool is_whole(const Slice& slice, const MatrixExtent& extent) {
  const auto& [first, second] = slice.rows;
  return first.begin == 0 && first.count + second.count == extent.rows && (second.count == 0 || second.begin == first.count) &&
         slice.columns == Slice::Run{0, extent.columns} && slice.elements == Slice::Run{0, extent.size()};
}

/// Throws Error that begins with `where` unless the slice lies in a tensor of this extent; one of no elements lies in any.
inline void check_slice(const Slice& slice, const MatrixExtent& extent, std::string_view where) {
  if (slice.elements.count == 0) return;
  const auto inside = [](const Slice::Run& run, std::int64_t length) {
    return run.begin >= 0 && run.count >= 0 && run.begin <= length && run.count <= length - run.begin;
  };
  const auto& [first, second] = slice.rows;
  require(inside(first, extent.rows) && inside(second, extent.rows), where, ": its slice has rows beyond the ", extent.rows, " of the tensor");
  require(first.count == 0 || second.count == 0 || first.end() <= second.begin || second.end() <= first.begin, where,
          ": the two runs of rows of its slice overlap");
  require(inside(slice.columns, extent.columns), where, ": its slice has columns beyond the ", extent.columns, " of the tensor");
  require(inside(slice.elements, slice.outline()), where, ": its slice has elements beyond the ", slice.outline(), " of its rows and columns");
}

/// A slice (that was checked) as rectangles of the full tensor, at most six: the run of elements begins and ends within a row of either run of rows.
class SliceBlocks {
 public:
  struct Block {
    Slice::Run rows, columns;             // in the full tensor
    std::int64_t offset = 0, stride = 0;  // of its first element in the slice's memory; and from there to the next row's
  };
  explicit SliceBlocks(const Slice& slice) {
    if (slice.elements.count == 0) return;
    const std::int64_t width = slice.columns.count;
    std::int64_t row_before = 0;  // rows of the run before this one
    for (const Slice::Run& run : slice.rows) {
      const std::int64_t end = std::min(slice.elements.end(), (row_before + run.count) * width);
      for (std::int64_t at = std::max(slice.elements.begin, row_before * width); at < end;) {
        const std::int64_t column = at % width, row = at / width - row_before;
        const std::int64_t rows = column == 0 && end - at >= width ? (end - at) / width : 1;
        const std::int64_t columns = rows > 1 ? width : std::min(width - column, end - at);
        blocks_[count_++] = {{run.begin + row, rows}, {slice.columns.begin + column, columns}, at - slice.elements.begin, width};
        at += rows * columns;
      }
      row_before += run.count;
    }
  }
  const Block* begin() const { return blocks_; }
  const Block* end() const { return blocks_ + count_; }

 private:
  Block blocks_[6];
  int count_ = 0;
};

/// What two runs share; its count is 0 or less where they share nothing.
inline Slice::Run shared_run(const Slice::Run& a, const Slice::Run& b) {
  const std::int64_t begin = std::max(a.begin, b.begin);
  return {begin, std::min(a.end(), b.end()) - begin};
}

/// Calls visit(offset in a, offset in b, elements) for the elements that two slices of a tensor share: for as many at once as lie together in both.
template <class Visit>
void for_each_shared(const SliceBlocks& a, const SliceBlocks& b, Visit visit) {
  for (const auto& x : a)
    for (const auto& y : b) {
      const Slice::Run rows = shared_run(x.rows, y.rows), columns = shared_run(x.columns, y.columns);
      if (rows.count <= 0 || columns.count <= 0) continue;
      const auto offset_in = [&](const SliceBlocks::Block& block) {
        return block.offset + (rows.begin - block.rows.begin) * block.stride + columns.begin - block.columns.begin;
      };
      const std::int64_t from = offset_in(x), to = offset_in(y);
      const bool together = columns.count == x.stride && columns.count == y.stride;
      if (together) visit(from, to, rows.count * columns.count);
      for (std::int64_t row = 0; !together && row < rows.count; ++row) visit(from + row * x.stride, to + row * y.stride, columns.count);
    }
}

/// How slices cover another one.
struct SliceCover {
  std::int64_t missing = 0;                // elements of it that none of them has; counted where no two overlap
  std::ptrdiff_t first = -1, second = -1;  // two of them that both have an element of it; -1: there are none
  bool once() const { return missing == 0 && first < 0; }
};

/// Whether each element of `wanted` is in one of the pieces, and in one only. All are checked slices of one tensor.
inline SliceCover cover_of(const Slice& wanted, std::span<const Slice> pieces) {
  struct Part {
    Slice::Run rows, columns;
    std::ptrdiff_t piece;
  };
  std::vector<Part> parts;
  const SliceBlocks blocks(wanted);
  SliceCover cover{.missing = wanted.size()};
  for (std::size_t i = 0; i < pieces.size(); ++i)
    for (const auto& x : SliceBlocks(pieces[i]))
      for (const auto& y : blocks) {
        const Part part{shared_run(x.rows, y.rows), shared_run(x.columns, y.columns), static_cast<std::ptrdiff_t>(i)};
        if (part.rows.count <= 0 || part.columns.count <= 0) continue;
        parts.push_back(part);
        cover.missing -= part.rows.count * part.columns.count;
      }
  std::sort(parts.begin(), parts.end(), [](const Part& a, const Part& b) { return a.rows.begin < b.rows.begin; });
  for (auto a = parts.begin(); a != parts.end(); ++a)
    for (auto b = a + 1; b != parts.end() && b->rows.begin < a->rows.end(); ++b)
      if (shared_run(a->columns, b->columns).count > 0) {
        cover.first = std::min(a->piece, b->piece), cover.second = std::max(a->piece, b->piece);
        return cover;
      }
  return cover;
}

}  // namespace golem
