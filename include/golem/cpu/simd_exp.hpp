// exp over the lanes of a vector, in float and in double.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <type_traits>

#include "golem/cpu/simd.hpp"

namespace golem::cpu {

/// What exp needs to know of A: where it splits ln 2, where it ends, and its polynomial (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2,
/// by interpolation at Chebyshev nodes.
template <class A>
struct ExpConstants;
template <>
struct ExpConstants<float> {
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.1219444e-4f;
  static constexpr float rounder = 0x1.8p23f, lowest = -87.33654f;  // ln of the smallest normal number
  static constexpr int mantissa_bits = 23;
  static constexpr float coefficients[]{0.5f, 0.166665763f, 0.0416665561f, 0.00836317893f, 0.0013926184f};  // error 1.0e-8
};
template <>
struct ExpConstants<double> {
  static constexpr double ln2_high = 0.6931471803691238, ln2_low = 1.9082149292705877e-10;
  static constexpr double rounder = 0x1.8p52, lowest = -708.3964185322641;
  static constexpr int mantissa_bits = 52;
  static constexpr double coefficients[]{0.5,
                                         0.16666666666666669,
                                         0.041666666666624129,
                                         0.0083333333333300615,
                                         0.0013888888917213717,
                                         0.00019841269863053618,
                                         2.4801521295954376e-05,
                                         2.7557268459997064e-06,
                                         2.7620088445409746e-07,
                                         2.510038549551032e-08};  // error 1.7e-17
};

/// x = e^x, within 2 units in the last place, for x up to 88 (709 in double). Results below the smallest normal number are 0,
/// also those of -infinity; NaN stays NaN, whatever its bits.
template <class V>
[[gnu::always_inline]] inline void exponentiate(V& x) {
  using Constants = ExpConstants<lane_t<V>>;
  using U = Lanes<std::make_unsigned_t<lane_integer_t<lane_t<V>>>, sizeof(V)>;  // wraps round where x is out of range
  constexpr int terms = sizeof Constants::coefficients / sizeof Constants::coefficients[0];
  const V shifted = x * lane_t<V>(1.4426950408889634) + Constants::rounder;  // its low bits are the integer nearest to x / ln 2
  const V n = shifted - Constants::rounder;
  const V r = (x - n * Constants::ln2_high) - n * Constants::ln2_low;
  V p = V{} + Constants::coefficients[terms - 1];
#pragma GCC unroll 16
  for (int i = terms - 2; i >= 0; --i) p = p * r + Constants::coefficients[i];
  p = (p * r + lane_t<V>(1)) * r + lane_t<V>(1);
  const V power = (V)((U)p + ((U)shifted << Constants::mantissa_bits));
  x = x >= Constants::lowest ? power : V{} > x ? V{} : x;  // a NaN as it came: adding to the exponent may have made a number of it
}

}  // namespace golem::cpu
