// The products of a linear layer as plain loops in double precision.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

namespace oracle {

using Doubles = std::vector<double>;

/// y (n, o) = x (n, i) times w (o, i) transposed, plus bias (o) or nothing.
inline Doubles project(const Doubles& x, const Doubles& w, const Doubles& bias, std::size_t n, std::size_t i, std::size_t o) {
  Doubles y(n * o);
  for (std::size_t r = 0; r < n; ++r)
    for (std::size_t c = 0; c < o; ++c) {
      double sum = bias.empty() ? 0 : bias[c];
      for (std::size_t k = 0; k < i; ++k) sum += x[r * i + k] * w[c * i + k];
      y[r * o + c] = sum;
    }
  return y;
}

/// dx (n, i) = dy (n, o) times w (o, i).
inline Doubles project_backward_input(const Doubles& dy, const Doubles& w, std::size_t n, std::size_t i, std::size_t o) {
  Doubles dx(n * i, 0.0);
  for (std::size_t r = 0; r < n; ++r)
    for (std::size_t c = 0; c < o; ++c)
      for (std::size_t k = 0; k < i; ++k) dx[r * i + k] += dy[r * o + c] * w[c * i + k];
  return dx;
}

/// dy (n, o) transposed times x (n, i): (o, i).
inline Doubles project_backward_weight(const Doubles& dy, const Doubles& x, std::size_t n, std::size_t i, std::size_t o) {
  Doubles dw(o * i, 0.0);
  for (std::size_t r = 0; r < n; ++r)
    for (std::size_t c = 0; c < o; ++c)
      for (std::size_t k = 0; k < i; ++k) dw[c * i + k] += dy[r * o + c] * x[r * i + k];
  return dw;
}

}  // namespace oracle
