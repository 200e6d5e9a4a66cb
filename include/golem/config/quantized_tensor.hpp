// QuantizedView: a quantised weight matrix where it lies, in GLM-130B's own storage (spec 5.1).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/config/quant.hpp"
#include "golem/core/int4.hpp"
#include "golem/core/tensor.hpp"

namespace golem {

/// A (rows, columns) matrix of integers -Q.max() .. Q.max(), and one fp16 scale for each group of each row:
/// weight(r, c) = integer(r, c) * scale(r, c). INT8: one two's complement byte a column. INT4: two columns a byte, the
/// even one in the high nibble; after an odd last column the low nibble is zero. `Byte` is const where the matrix is.
template <Quant Q, class Byte = const std::uint8_t>
struct QuantizedView {
  static_assert(Q.bits == 4 || Q.bits == 8, "golem: Quant::bits must be 4 or 8");
  static_assert(Q.group == 0 || Q.group == 32 || Q.group == 64 || (Q.group > 0 && Q.group % 128 == 0),
                "golem: Quant::group must be 0 (the whole row), 32, 64 or a multiple of 128");
  static_assert(std::is_same_v<std::remove_const_t<Byte>, std::uint8_t>,
                "golem: the second argument of QuantizedView must be uint8_t or const uint8_t");
  using Scale = std::conditional_t<std::is_const_v<Byte>, const float16, float16>;

  std::int64_t rows = 0, columns = 0;
  View<Byte, 2> data;     // (rows, Q.row_bytes(columns))
  View<Scale, 2> scales;  // (rows, Q.groups(columns))

  QuantizedView() = default;
  GOLEM_HD constexpr QuantizedView(std::int64_t rows, std::int64_t columns, Byte* bytes, Scale* scales)
      : rows(rows), columns(columns), data(bytes, rows, Q.row_bytes(columns)), scales(scales, rows, Q.groups(columns)) {}

  /// A view of what may be written is a view of what may be read.
  template <class Other>
  requires(std::is_const_v<Byte>&& std::is_same_v<Other, std::uint8_t>) GOLEM_HD constexpr QuantizedView(const QuantizedView<Q, Other>& other)
      : rows(other.rows), columns(other.columns), data(other.data), scales(other.scales) {}

  GOLEM_HD constexpr explicit operator bool() const { return data.data != nullptr; }

  GOLEM_HD constexpr int integer(std::int64_t row, std::int64_t column) const {
    const std::uint8_t* bytes = data.row(row);
    if constexpr (Q.bits == 4)
      return int4_at(bytes, column);
    else
      return static_cast<std::int8_t>(bytes[column]);
  }
  GOLEM_HD constexpr float scale(std::int64_t row, std::int64_t column) const {
    if constexpr (Q.group == 0)
      return static_cast<float>(scales(row, 0));
    else
      return static_cast<float>(scales(row, column / Q.group));
  }
};

/// A quantised matrix with room for its elements, which many matrices may share: products make them first (spec 5.1).
template <class T, Quant Q>
struct DequantizedView {
  QuantizedView<Q> stored;
  View<T, 2> elements;  // (rows, columns)
};

}  // namespace golem
