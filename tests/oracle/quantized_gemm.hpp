// The quantised product in double precision, from its definition.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "golem/config/quantized_tensor.hpp"

namespace oracle {

/// A row of activations as Quant{.activations = int8} rounds it: blocks of a group, 128 columns at most.
inline std::vector<double> rounded_to_int8(std::vector<double> x, golem::Quant quant) {
  const std::size_t block = quant.group == 0 || quant.group > 128 ? 128 : static_cast<std::size_t>(quant.group);
  for (std::size_t first = 0; first < x.size(); first += block) {
    const std::size_t last = std::min(first + block, x.size());
    float largest = 0;
    for (std::size_t c = first; c < last; ++c) largest = std::max(largest, static_cast<float>(std::fabs(x[c])));
    const float scale = largest / 127, inverse = scale == 0 ? 0 : 127 / largest;
    for (std::size_t c = first; c < last; ++c) {
      const float quotient = static_cast<float>(x[c]) * inverse;  // in float, so that what lies in the middle of two integers goes the same way
      x[c] = std::nearbyint(quotient) * static_cast<double>(scale);
    }
  }
  return x;
}

/// y = x wT + bias; x has the columns of w, bias its rows or none. magnitude, of y's size: the sum of the terms' magnitudes.
/// The elements of w are rounded to Element.
template <class Element = double, golem::Quant Q>
std::vector<double> project(const std::vector<double>& x, const golem::QuantizedView<Q>& w, const std::vector<double>& bias,
                            std::vector<double>& magnitude) {
  const auto columns = static_cast<std::size_t>(w.columns), rows = static_cast<std::size_t>(w.rows), tokens = x.size() / columns;
  std::vector<double> y;
  for (std::size_t t = 0; t < tokens; ++t) {
    std::vector<double> token(x.begin() + static_cast<std::ptrdiff_t>(t * columns), x.begin() + static_cast<std::ptrdiff_t>((t + 1) * columns));
    if (Q.activations == golem::Activations::int8) token = rounded_to_int8(token, Q);
    for (std::size_t row = 0; row < rows; ++row) {
      double sum = bias.empty() ? 0 : bias[row], terms = std::fabs(sum);
      for (std::size_t c = 0; c < columns; ++c) {
        const float element = static_cast<float>(w.integer(static_cast<std::int64_t>(row), static_cast<std::int64_t>(c))) *
                              w.scale(static_cast<std::int64_t>(row), static_cast<std::int64_t>(c));  // an exact product: 8 bits times 11
        const double term = token[c] * static_cast<double>(Element(element));
        sum += term;
        terms += std::fabs(term);
      }
      y.push_back(sum);
      magnitude.push_back(terms);
    }
  }
  return y;
}

}  // namespace oracle
