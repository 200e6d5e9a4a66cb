// Rows of a quantised matrix, times a few tokens, in plain C++: what every processor runs that has no path of its own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/config/quantized_tensor.hpp"
#include "golem/cpu/quantized_activations.hpp"

namespace golem::cpu {

/// The row kernels of the plain path. `weights` are a row's integers, one a byte, filled up with zeros to whole chunks;
/// `scales` its scale for each block.
struct PlainRow {
  static constexpr int rows = 1, tokens = 4;  // at once

  template <Quant Q>
  static const std::int8_t* unpack(std::int8_t* weights, const std::uint8_t* bytes, std::int64_t columns) {
    for (std::int64_t c = 0; c < columns; ++c)
      weights[c] = static_cast<std::int8_t>(Q.bits == 4 ? int4_at(bytes, c) : static_cast<std::int8_t>(bytes[c]));
    return weights;
  }
  template <Quant Q>
  static void spread(float* out, const float16* scales, std::int64_t groups, std::int64_t blocks) {
    spread_scales<Q>(out, scales, groups, blocks);
  }

  /// sums[t] = row . token + t, each block's sum times its scale.
  template <Quant Q, int rows, int tokens, class A>
  static void dot(A* sums, const std::int8_t* weights, std::int64_t, const RowScales& scales, const ExactActivations<A>& x, std::int64_t token) {
    constexpr int block = block_columns<Q>, lanes = 16;
    for (int t = 0; t < tokens; ++t) {
      sums[t] = 0;
      for (std::int64_t first = 0; first < x.values.extent(0) * chunk_columns; first += block) {
        const A* values = &x.values(first / chunk_columns, token + t, first % chunk_columns);
        A partial[lanes] = {};
        for (int c = 0; c < block; c += lanes)
          for (int lane = 0; lane < lanes; ++lane) partial[lane] += static_cast<A>(weights[first + c + lane]) * values[c + lane];
        A sum = 0;
        for (int lane = 0; lane < lanes; ++lane) sum += partial[lane];
        sums[t] += sum * static_cast<A>(scales.scales[first / block]);
      }
    }
  }

  template <Quant Q, int rows, int tokens, class A>
  static void dot(A* sums, const std::int8_t* weights, std::int64_t, const RowScales& scales, const Int8Activations& x, std::int64_t token) {
    constexpr int block = block_columns<Q>;
    for (int t = 0; t < tokens; ++t) {
      sums[t] = 0;
      for (std::int64_t first = 0; first < x.values.extent(0) * chunk_columns; first += block) {
        const std::int8_t* values = &x.values(first / chunk_columns, token + t, first % chunk_columns);
        std::int32_t sum = 0;
        for (int c = 0; c < block; ++c) sum += weights[first + c] * values[c];
        sums[t] += static_cast<A>(sum) * static_cast<A>(scales.scales[first / block] * x.scales(token + t, first / block));
      }
    }
  }
};

}  // namespace golem::cpu
