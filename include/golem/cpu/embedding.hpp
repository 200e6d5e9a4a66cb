// The embedding table: rows by token, and the gradient back into them, in a fixed order (spec 1.2, 4.3).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/core/math.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cpu/device.hpp"
#include "golem/cpu/simd_rows.hpp"

namespace golem::cpu {

/// y += scale x.
template <class T>
struct AccumulateRow {
  template <int Bytes>
  [[gnu::always_inline]] static void run(accumulate_t<T>* y, const T* x, accumulate_t<T> scale, std::int64_t count) {
    using V = Lanes<accumulate_t<T>, Bytes>;
    for (std::int64_t i = 0; i < count; i += lane_count<V>) {
      V total, term;
      load_up_to(total, y + i, count - i);
      load_up_to(term, x + i, count - i);
      store_up_to(y + i, V(total + term * scale), count - i);
    }
  }
};

/// x (N, C): row tokens[n] - first of the table (V/tp, C), or zeros where that is not one of its rows.
template <class T>
void embed(Device& device, View<T, 2> x, std::type_identity_t<View<const T, 2>> table, View<const std::int32_t, 1> tokens, std::int64_t first) {
  const std::int64_t hidden = x.extent(1);
  device.parallel(x.extent(0), [&](std::int64_t n) {
    const std::int64_t row = tokens(n) - first;
    const bool here = row >= 0 && row < table.extent(0);
    for (std::int64_t i = 0; i < hidden; ++i) x.row(n)[i] = here ? table.row(row)[i] : T(0.0f);
  });
}

/// d_table (V/tp, C) row tokens[n] - first += scale dx[n], in the order of n. Each thread takes columns.
template <class T>
void embed_backward(Device& device, View<accumulate_t<T>, 2> d_table, View<T, 2> dx, View<const std::int32_t, 1> tokens, std::int64_t first, double scale) {
  constexpr std::int64_t strip = 64;  // columns
  const std::int64_t hidden = dx.extent(1);
  device.parallel(ceil_div(hidden, strip), [&](std::int64_t s) {
    const std::int64_t begin = s * strip, count = smaller(strip, hidden - begin);
    for (std::int64_t n = 0; n < dx.extent(0); ++n) {
      const std::int64_t row = tokens(n) - first;
      if (row >= 0 && row < d_table.extent(0)) run_on<AccumulateRow<T>>(device.isa(), d_table.row(row) + begin, dx.row(n) + begin, static_cast<accumulate_t<T>>(scale), count);
    }
  });
}

}  // namespace golem::cpu
