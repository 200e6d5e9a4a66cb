// The standard normal distribution over the lanes of a vector: what the exact GeLU is made of.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <type_traits>

#include "golem/cpu/simd_exp.hpp"

namespace golem::cpu {

/// cdf = P(X <= x) and density of the standard normal. In float: erf by Abramowitz and Stegun 7.1.26, 1.5e-7 absolute,
/// taken on the side where nothing cancels; in double: the standard library's.
template <class V>
[[gnu::always_inline]] inline void normal_distribution(V& cdf, V& density, const V& x) {
  if constexpr (std::is_same_v<lane_t<V>, double>) {
    cdf = density = V{};  // g++ does not see that the lanes are all of it
    for (int i = 0; i < lane_count<V>; ++i) {
      cdf[i] = 0.5 * std::erfc(-x[i] * 0.70710678118654752440);
      density[i] = std::exp(-0.5 * x[i] * x[i]) * 0.39894228040143267794;
    }
  } else {
    const V magnitude = x < 0.0f ? -x : x;
    V gauss = x * x * -0.5f;
    exponentiate(gauss);
    const V t = 1.0f / (1.0f + magnitude * (0.3275911f * 0.70710678118654752f));
    V tail = t * 1.061405429f - 1.453152027f;
    tail = tail * t + 1.421413741f;
    tail = tail * t - 0.284496736f;
    tail = tail * t + 0.254829592f;
    tail = tail * t * gauss * 0.5f;  // P(X > |x|)
    cdf = x < 0.0f ? tail : 1.0f - tail;
    density = gauss * 0.39894228040143268f;
  }
}

}  // namespace golem::cpu
