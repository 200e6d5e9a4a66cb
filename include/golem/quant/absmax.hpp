// Absmax quantisation: the largest magnitude of a row, or of a group of its columns, becomes the largest integer (spec 5.1).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "golem/config/quantized_tensor.hpp"
#include "golem/core/error.hpp"
#include "golem/core/math.hpp"

namespace golem {

/// What became of the weights. Reports of parts add up.
struct QuantizationReport {
  std::int64_t weights = 0;
  std::int64_t clamped = 0;      // beyond the largest integer: their scale was subnormal, or chosen to clip them
  std::int64_t zero_scales = 0;  // groups whose scale is zero, all weights with it: nothing but zeros, or too small for fp16
  std::int64_t not_finite = 0;   // NaN or infinite (in fp16, where group = 0), or so large that their scale would be infinite; stored as zero
  double squared_error = 0;      // sum of (weight - integer * scale)^2
  double squared_weights = 0;    // sum of weight^2

  /// Signal to quantisation noise, in dB.
  double signal_to_noise() const {
    return squared_error > 0 ? 10 * std::log10(squared_weights / squared_error) : std::numeric_limits<double>::infinity();
  }

  QuantizationReport& operator+=(const QuantizationReport& other) {
    weights += other.weights;
    clamped += other.clamped;
    zero_scales += other.zero_scales;
    not_finite += other.not_finite;
    squared_error += other.squared_error;
    squared_weights += other.squared_weights;
    return *this;
  }
};

/// How one weight becomes an integer. group = 0 is GLM-130B's format to the bit: weights of any type are rounded to fp16
/// first, and so is their quotient by the scale, before it is rounded to an integer. Groups are golem's own: weights and
/// quotients keep float's precision there, and only the scale, which is stored, is rounded to fp16.
template <Quant Q>
struct Absmax {
  static float stored(float x) { return Q.group == 0 ? static_cast<float>(float16(x)) : x; }

  static constexpr float beyond = 65520.0f * Q.max();  // the least magnitude whose scale rounds to infinity in fp16

  /// Infinite where no scale would be finite.
  template <class T>
  static float weight(T w) {
    const float x = stored(static_cast<float>(w));
    return std::fabs(x) < beyond ? x : std::numeric_limits<float>::infinity();
  }

  /// Of weights whose largest magnitude is `magnitude`.
  static float16 scale(float magnitude) { return float16(magnitude / static_cast<float>(Q.max())); }

  /// Rounded half to even; may exceed Q.max(). `scale` is not zero.
  static float quotient(float weight, float scale) { return std::nearbyint(stored(weight / scale)); }

  /// Within -Q.max() .. Q.max().
  static int clamp(float quotient) { return static_cast<int>(smaller(larger(quotient, static_cast<float>(-Q.max())), static_cast<float>(Q.max()))); }
};

/// The scale of absmax, for `count` weights of one group: what quantize_rows asks of a chooser of scales.
struct AbsmaxScale {
  template <Quant Q, class T>
  static float16 choose(const T* weights, std::int64_t count) {
    float magnitude = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      const float w = std::fabs(Absmax<Q>::weight(weights[i]));
      if (w > magnitude && std::isfinite(w)) magnitude = w;
    }
    return Absmax<Q>::scale(magnitude);
  }
};

/// Quantises `count` weights of one group with the given scale; integers[i] is weight i's.
template <Quant Q, class T>
QuantizationReport quantize_group(std::int8_t* integers, const T* weights, std::int64_t count, float16 scale) {
  QuantizationReport report{.weights = count};
  const auto s = static_cast<float>(scale);
  report.zero_scales = s == 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const float w = Absmax<Q>::weight(weights[i]);
    if (!std::isfinite(w)) {
      ++report.not_finite;
      integers[i] = 0;
      continue;
    }
    const float quotient = s == 0 ? 0.0f : Absmax<Q>::quotient(w, s);
    const int integer = Absmax<Q>::clamp(quotient);
    report.clamped += static_cast<float>(integer) != quotient;
    const double original = static_cast<double>(weights[i]), error = original - static_cast<double>(integer) * static_cast<double>(s);
    report.squared_error += error * error;
    report.squared_weights += original * original;
    integers[i] = static_cast<std::int8_t>(integer);
  }
  return report;
}

/// Quantises rows [first, first + count) of `weights` (rows, columns) into `to`, each group with the scale that `Scale`
/// chooses. Rows are independent, so that a caller may share them among threads. Throws Error where shapes differ; what
/// the values hold is in the report alone.
template <class Scale = AbsmaxScale, class T, Quant Q>
QuantizationReport quantize_rows(const QuantizedView<Q, std::uint8_t>& to, View<T, 2> weights, std::int64_t first, std::int64_t count) {
  require(weights.extent(0) == to.rows && weights.extent(1) == to.columns, "a matrix of shape ", shape_of(weights),
          " was to be quantised into one of (", to.rows, ", ", to.columns, "): they must be the same");
  require(first >= 0 && count >= 0 && first + count <= to.rows, "rows ", first, " to ", first + count, " were to be quantised, of a matrix of ",
          to.rows);
  constexpr std::int64_t piece = Q.group == 0 ? 256 : Q.group;  // columns whose integers are held at once
  const std::int64_t columns = to.columns, bytes = Q.row_bytes(columns), groups = Q.groups(columns);
  QuantizationReport report;
  for (std::int64_t row = first; row < first + count; ++row) {
    const T* w = weights.data + row * columns;
    std::uint8_t* out = to.data.data + row * bytes;
    float16* scales = to.scales.data + row * groups;
    if (Q.group == 0) scales[0] = Scale::template choose<Q>(w, columns);
    for (std::int64_t begin = 0; begin < columns; begin += piece) {
      const std::int64_t here = smaller(piece, columns - begin);
      float16& scale = scales[Q.group == 0 ? 0 : begin / piece];
      if (Q.group != 0) scale = Scale::template choose<Q>(w + begin, here);
      std::int8_t integers[piece + 1];
      integers[here] = 0;  // behind an odd last column
      QuantizationReport part = quantize_group<Q>(integers, w + begin, here, scale);
      if (Q.group == 0) part.zero_scales = begin == 0 ? part.zero_scales : 0;
      report += part;
      for (std::int64_t i = 0; i < here; ++i) {
        if constexpr (Q.bits == 8)
          out[begin + i] = static_cast<std::uint8_t>(integers[i]);
        else if (i % 2 == 0)
          out[(begin + i) / 2] = pack_int4(integers[i], integers[i + 1]);
      }
    }
  }
  return report;
}

/// Quantises a whole matrix. Throws Error where a weight counts as not finite.
template <class Scale = AbsmaxScale, class T, Quant Q>
QuantizationReport quantize(const QuantizedView<Q, std::uint8_t>& to, View<T, 2> weights) {
  const QuantizationReport report = quantize_rows<Scale>(to, weights, 0, to.rows);
  require(report.not_finite == 0, "a matrix of shape ", shape_of(weights), " cannot be quantised: ", report.not_finite,
          " of its weights are NaN or infinite", Q.group == 0 ? " in fp16" : ", or too large for a scale in fp16", "; look at what made it");
  return report;
}

/// weights = integer * scale, rounded once to T; for fp16, the original's product (spec 5.1 item 4).
template <class T, Quant Q, class Byte>
void dequantize(View<T, 2> weights, const QuantizedView<Q, Byte>& from) {
  require(weights.extent(0) == from.rows && weights.extent(1) == from.columns, "a matrix of (", from.rows, ", ", from.columns,
          ") was to be dequantised into one of shape ", shape_of(weights), ": they must be the same");
  for (std::int64_t row = 0; row < from.rows; ++row) {
    T* w = weights.data + row * from.columns;
    for (std::int64_t column = 0; column < from.columns; ++column)
      w[column] = static_cast<T>(static_cast<float>(from.integer(row, column)) * from.scale(row, column));
  }
}

}  // namespace golem
