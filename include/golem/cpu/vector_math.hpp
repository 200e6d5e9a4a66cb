// exp and the normal distribution for vectors of floats (own polynomials) and doubles (the standard library's).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstring>

#include "golem/cpu/vector.hpp"

namespace golem::cpu {

/// y = e^x; in float to 2 ulp, 0 below -87.3, at most e^88.
template <class V>
[[gnu::always_inline]] inline void exp(V& y, const V& x) {
  if constexpr (std::is_same_v<Lane<V>, double>) {
    for (int i = 0; i < lanes<V>; ++i) y[i] = std::exp(x[i]);
  } else {
    // e^x = 2^n e^r with n = round(x log2 e), |r| <= ln2 / 2; the polynomial is Taylor's to r^7, whose rest is below 1e-8.
    constexpr float lowest = -87.3f, highest = 88.0f, magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    V c = x < lowest ? V{} + lowest : x;
    c = c > highest ? V{} + highest : c;
    const V shifted = c * 1.44269504088896341f + magic, n = shifted - magic;
    const V r = (c - n * 0.693145751953125f) - n * 1.42860682030941723e-6f;  // ln 2 in two parts
    V p = r * (1.0f / 5040) + (1.0f / 720);
    p = p * r + (1.0f / 120);
    p = p * r + (1.0f / 24);
    p = p * r + (1.0f / 6);
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    Words<V> exponent;
    copy_bits(exponent, shifted);
    exponent = (exponent - 0x4b400000u + 127u) << 23;
    V power;
    copy_bits(power, exponent);
    y = x < lowest ? V{} : p * power;
  }
}

/// cdf = P(X <= x) and density of the standard normal. In float: erf by Abramowitz and Stegun 7.1.26, 1.5e-7 absolute,
/// taken on the side where nothing cancels.
template <class V>
[[gnu::always_inline]] inline void normal_distribution(V& cdf, V& density, const V& x) {
  if constexpr (std::is_same_v<Lane<V>, double>) {
    for (int i = 0; i < lanes<V>; ++i) {
      cdf[i] = 0.5 * std::erfc(-x[i] * 0.70710678118654752440);
      density[i] = std::exp(-0.5 * x[i] * x[i]) * 0.39894228040143267794;
    }
  } else {
    const V magnitude = x < 0.0f ? -x : x;
    V gauss;
    exp(gauss, V(x * x * -0.5f));
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
