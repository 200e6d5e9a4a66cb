// Small integer and compile-time arithmetic that the standard library lacks or does not offer at compile time.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/core/annotate.hpp"

namespace golem {

GOLEM_HD constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
GOLEM_HD constexpr std::int64_t round_up(std::int64_t a, std::int64_t multiple) { return ceil_div(a, multiple) * multiple; }

template <class T>
GOLEM_HD constexpr T smaller(T a, T b) {
  return b < a ? b : a;
}

template <class T>
GOLEM_HD constexpr T larger(T a, T b) {
  return a < b ? b : a;
}

/// Square root by Newton's iteration, for constants of a model (spec 1.1: alpha = sqrt(2N)).
constexpr double constant_sqrt(double x) {
  if (!(x > 0)) return 0;
  double root = x > 1 ? x : 1;
  for (double next = 0.5 * (root + x / root); next < root; next = 0.5 * (root + x / root)) root = next;
  return root;
}

}  // namespace golem
