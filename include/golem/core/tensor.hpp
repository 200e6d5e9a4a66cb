// View: a pointer with a shape; and the letters of shape comments, everywhere in golem.
// SPDX-License-Identifier: Apache-2.0
//   B batch rows   T sequence   N = B*T tokens   C hidden   H heads   G heads of keys and values, S = H/G share one   D head dim   F ffn   V vocab   L layers   "/tp" per tensor-parallel rank
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>

#include "golem/core/annotate.hpp"
#include "golem/core/error.hpp"
#include "golem/core/number.hpp"

namespace golem {

/// Non-owning, contiguous, row-major. An empty view (`!view`) stands for an optional tensor that is absent.
template <class T, int Rank>
struct View {
  static_assert(Rank >= 1 && Rank <= 4, "golem: View has rank 1 to 4");
  using element = T;

  T* data = nullptr;
  std::int64_t extents[Rank] = {};

  View() = default;
  template <class... Extents>
    requires(sizeof...(Extents) == Rank)
  GOLEM_HD constexpr View(T* data, Extents... extents) : data(data), extents{static_cast<std::int64_t>(extents)...} {}

  /// A view of T is a view of const T.
  template <class U>
    requires(std::is_same_v<const U, T> && !std::is_same_v<U, T>)
  GOLEM_HD constexpr View(const View<U, Rank>& other) : data(other.data) {
    for (int i = 0; i < Rank; ++i) extents[i] = other.extents[i];
  }

  GOLEM_HD constexpr explicit operator bool() const { return data != nullptr; }
  GOLEM_HD constexpr std::int64_t extent(int dim) const { return extents[dim]; }

  GOLEM_HD constexpr std::int64_t size() const {
    std::int64_t product = 1;
    for (int i = 0; i < Rank; ++i) product *= extents[i];
    return product;
  }

  template <class... Indices>
    requires(sizeof...(Indices) == Rank)
  GOLEM_HD constexpr T& operator()(Indices... indices) const {
    const std::int64_t index[Rank]{static_cast<std::int64_t>(indices)...};
    std::int64_t offset = 0;
    for (int i = 0; i < Rank; ++i) offset = offset * extents[i] + index[i];
    return data[offset];
  }

  /// Row `i` of the first dim, as a pointer to its first element.
  GOLEM_HD constexpr T* row(std::int64_t i) const { return data + i * (size() / (extents[0] ? extents[0] : 1)); }

  /// Rows [first, first + count) of the first dim.
  GOLEM_HD constexpr View rows(std::int64_t first, std::int64_t count) const {
    View part = *this;
    part.data = row(first);
    part.extents[0] = count;
    return part;
  }

  /// The same elements under another shape of the same size.
  template <class... Extents>
  GOLEM_HD constexpr View<T, sizeof...(Extents)> reshaped(Extents... extents) const {
    return {data, extents...};
  }

  /// The same elements in one dim.
  GOLEM_HD constexpr View<T, 1> flat() const { return {data, size()}; }
};

/// The extents of a view, for error sentences.
template <class T, int Rank>
ShapeText shape_of(const View<T, Rank>& view) {
  static_assert(Rank <= ShapeText::max_rank);
  ShapeText text;
  text.rank = Rank;
  for (int i = 0; i < Rank; ++i) text.extents[i] = view.extents[i];
  return text;
}

}  // namespace golem
