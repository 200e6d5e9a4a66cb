// Search: of a few clipped scales for each group, the one with the least squared error; stored as absmax is.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/quant/absmax.hpp"

namespace golem {

/// What chooses the scale of a group.
enum class Quantizer : std::uint8_t {
  absmax,  // the largest magnitude becomes the largest integer (GLM-130B's own)
  search,  // large magnitudes may be clipped, where that lessens the squared error of the group
};

/// A chooser of scales for quantize_rows: absmax times 1, 0.95, .. 0.4. Never a larger squared error than absmax.
struct SearchedScale {
  template <Quant Q, class T>
  static float16 choose(const T* weights, std::int64_t count) {
    const float16 absmax = AbsmaxScale::choose<Q>(weights, count);
    float16 best = absmax;
    double least = squared_error<Q>(weights, count, absmax);
    for (int percent = 95; percent >= 40; percent -= 5) {
      const auto scale = float16(static_cast<float>(absmax) * static_cast<float>(percent) * 0.01f);
      if (static_cast<float>(scale) == 0) break;
      const double error = squared_error<Q>(weights, count, scale);
      if (error < least) least = error, best = scale;
    }
    return best;
  }

 private:
  template <Quant Q, class T>
  static double squared_error(const T* weights, std::int64_t count, float16 scale) {
    constexpr std::int64_t piece = 256;
    std::int8_t integers[piece];
    double sum = 0;
    for (std::int64_t begin = 0; begin < count; begin += piece)
      sum += quantize_group<Q>(integers, weights + begin, smaller(piece, count - begin), scale).squared_error;
    return sum;
  }
};

/// quantize_rows with the chooser that `quantizer` names.
template <class T, Quant Q>
QuantizationReport quantize_rows(Quantizer quantizer, const QuantizedView<Q, std::uint8_t>& to, View<T, 2> weights, std::int64_t first,
                                 std::int64_t count) {
  return quantizer == Quantizer::search ? quantize_rows<SearchedScale>(to, weights, first, count) : quantize_rows(to, weights, first, count);
}

}  // namespace golem
