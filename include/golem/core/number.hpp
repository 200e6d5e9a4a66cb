// The 16-bit number types, float16 and bfloat16, with exact conversions, and what an element type accumulates in.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/core/annotate.hpp"

namespace golem {

/// The bits of `from` as a `To`; usable in kernels, where std::bit_cast is not.
template <class To, class From>
GOLEM_HD constexpr To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "golem: bits_as needs two types of one size");
  return __builtin_bit_cast(To, from);
}

/// bfloat16 bits of a float, rounded to nearest even; NaN stays NaN.
GOLEM_HD constexpr std::uint16_t float_to_bfloat16_bits(float value) {
  const auto bits = bits_as<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/// IEEE binary16 bits of a float, rounded to nearest even; overflow becomes infinity, NaN stays NaN, subnormals are exact.
GOLEM_HD constexpr std::uint16_t float_to_float16_bits(float value) {
  const auto bits = bits_as<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // 65520 and above
  if (magnitude < 0x38800000u) {                                                    // below 2^-14: subnormal
    if (magnitude < 0x33000000u) return sign;                                       // below 2^-25
    const std::uint32_t exponent = magnitude >> 23;
    const std::uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    const std::uint32_t shift = 126u - exponent;
    const std::uint32_t half = mantissa >> shift, rest = mantissa & ((1u << shift) - 1u), middle = 1u << (shift - 1u);
    return static_cast<std::uint16_t>(sign | (half + (rest > middle || (rest == middle && (half & 1u)) ? 1u : 0u)));
  }
  const std::uint32_t rebased = magnitude - 0x38000000u;
  return static_cast<std::uint16_t>(sign | ((rebased + 0xfffu + ((rebased >> 13) & 1u)) >> 13));
}

GOLEM_HD constexpr float float16_bits_to_float(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1fu, mantissa = bits & 0x3ffu;
  if (exponent == 31) return bits_as<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f;  // 2^-24
    return sign ? -magnitude : magnitude;
  }
  return bits_as<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

/// The float beside `value` that a further rounding to half its bits takes where it would take `value` itself: of the two
/// neighbours of what is no float, the one whose last bit is set ("rounding to odd").
GOLEM_HD constexpr float to_odd_float(double value) {
  const auto nearest = static_cast<float>(value);
  const auto bits = bits_as<std::uint32_t>(nearest);
  const double back = nearest;
  if (back == value || value != value || (bits & 1u)) return nearest;
  const bool is_short = (back < 0 ? -back : back) < (value < 0 ? -value : value);
  return bits_as<float>(is_short ? bits + 1 : bits - 1);
}

/// 8 exponent bits, 7 stored mantissa bits. Arithmetic is done in float; conversions are explicit.
struct bfloat16 {
  std::uint16_t bits = 0;

  bfloat16() = default;
  GOLEM_HD constexpr explicit bfloat16(float value) : bits(float_to_bfloat16_bits(value)) {}
  GOLEM_HD constexpr explicit bfloat16(double value) : bfloat16(to_odd_float(value)) {}
  GOLEM_HD static constexpr bfloat16 from_bits(std::uint16_t bits) {
    bfloat16 number;
    number.bits = bits;
    return number;
  }
  GOLEM_HD constexpr explicit operator float() const { return bits_as<float>(static_cast<std::uint32_t>(bits) << 16); }
  GOLEM_HD constexpr explicit operator double() const { return static_cast<double>(static_cast<float>(*this)); }
  friend bool operator==(bfloat16, bfloat16) = default;
};

/// IEEE binary16. Arithmetic is done in float; conversions are explicit.
struct float16 {
  std::uint16_t bits = 0;

  float16() = default;
  GOLEM_HD constexpr explicit float16(float value) : bits(float_to_float16_bits(value)) {}
  GOLEM_HD constexpr explicit float16(double value) : float16(to_odd_float(value)) {}
  GOLEM_HD static constexpr float16 from_bits(std::uint16_t bits) {
    float16 number;
    number.bits = bits;
    return number;
  }
  GOLEM_HD constexpr explicit operator float() const { return float16_bits_to_float(bits); }
  GOLEM_HD constexpr explicit operator double() const { return static_cast<double>(static_cast<float>(*this)); }
  friend bool operator==(float16, float16) = default;
};

static_assert(sizeof(bfloat16) == 2 && sizeof(float16) == 2);

/// The type that sums, statistics and softmax of T are held in: double for double, else float.
template <class T>
using accumulate_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

/// The element types of tensors, as files name them.
enum class DType : std::uint8_t { f64, f32, f16, bf16, i64, i32, i8, u8 };

constexpr int size_of(DType type) {
  switch (type) {
    case DType::f64:
    case DType::i64: return 8;
    case DType::f32:
    case DType::i32: return 4;
    case DType::f16:
    case DType::bf16: return 2;
    case DType::i8:
    case DType::u8: return 1;
  }
  return 0;
}

constexpr const char* name_of(DType type) {
  constexpr const char* names[]{"f64", "f32", "f16", "bf16", "i64", "i32", "i8", "u8"};
  return names[static_cast<int>(type)];
}

template <class T>
consteval DType dtype_of() {
  if constexpr (std::is_same_v<T, double>) return DType::f64;
  else if constexpr (std::is_same_v<T, float>) return DType::f32;
  else if constexpr (std::is_same_v<T, float16>) return DType::f16;
  else if constexpr (std::is_same_v<T, bfloat16>) return DType::bf16;
  else if constexpr (std::is_same_v<T, std::int64_t>) return DType::i64;
  else if constexpr (std::is_same_v<T, std::int32_t>) return DType::i32;
  else if constexpr (std::is_same_v<T, std::int8_t>) return DType::i8;
  else {
    static_assert(std::is_same_v<T, std::uint8_t>, "golem: this type is no element type of a tensor");
    return DType::u8;
  }
}

/// Where an op rounds to a narrower type.
enum class Rounding : std::uint8_t {
  once,      // its result, at the end
  stepwise,  // after each elementary step, as the original's operations do one by one (spec 1.3)
};

}  // namespace golem
