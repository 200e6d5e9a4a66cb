// float16 and bfloat16: every bit pattern converts exactly, and rounding is to nearest even.
// SPDX-License-Identifier: Apache-2.0
#include "golem/core/number.hpp"

#include <cmath>
#include <cstdint>
#include <limits>

#include "catch.hpp"

using golem::bfloat16, golem::float16;

namespace {

// Value of a binary16 pattern from its definition.
double float16_by_definition(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return bits >> 15 ? -magnitude : magnitude;
}

}  // namespace

TEST_CASE("float16 widens every pattern to its value, and narrows it back") {
  for (int i = 0; i < 65536; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    const auto value = static_cast<float>(float16::from_bits(bits));
    if ((i & 0x7c00) == 0x7c00) {
      REQUIRE(((i & 0x3ff) ? std::isnan(value) : std::isinf(value)));
      continue;
    }
    REQUIRE(static_cast<double>(value) == float16_by_definition(bits));
    REQUIRE(float16(value).bits == bits);
  }
}

TEST_CASE("float16 rounds the middle of two neighbours to the even one, and all else to the nearer") {
  for (int i = 0; i < 0x7bff; ++i) {
    const auto low = static_cast<std::uint16_t>(i), high = static_cast<std::uint16_t>(i + 1);
    const auto middle = static_cast<float>(0.5 * (float16_by_definition(low) + float16_by_definition(high)));
    REQUIRE(float16(middle).bits == (low % 2 == 0 ? low : high));
    REQUIRE(float16(std::nextafter(middle, 0.0f)).bits == low);
    REQUIRE(float16(std::nextafter(middle, 1e9f)).bits == high);
  }
  CHECK(float16(65519.99f).bits == 0x7bff);
  CHECK(float16(65520.0f).bits == 0x7c00);
  CHECK(std::isnan(static_cast<float>(float16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST_CASE("bfloat16 rounds to nearest even and keeps NaN and infinity") {
  for (std::uint32_t i = 0; i < 0x7f80; ++i) {
    const auto low = golem::bits_as<float>(i << 16), middle = golem::bits_as<float>((i << 16) | 0x8000u);
    REQUIRE(bfloat16(low).bits == i);
    REQUIRE(bfloat16(middle).bits == i + (i & 1));
    REQUIRE(bfloat16(golem::bits_as<float>((i << 16) | 0x8001u)).bits == i + 1);
  }
  CHECK(std::isinf(static_cast<float>(bfloat16(std::numeric_limits<float>::infinity()))));
  CHECK(std::isnan(static_cast<float>(bfloat16(golem::bits_as<float>(0x7f800001u)))));
}

TEST_CASE("doubles are rounded once") {
  CHECK(float16(1 + 0x1p-11 + 0x1p-40).bits == float16(1.0f + 0x1p-10f).bits);  // as a float it would be a tie, and 1
  CHECK(float16(1 + 0x1p-11).bits == float16(1.0f).bits);
  CHECK(bfloat16(-1 - 0x1p-8 - 0x1p-40).bits == bfloat16(-1.0f - 0x1p-7f).bits);
  for (std::uint32_t i = 0; i < 0x7bff; ++i) {
    const double low = float16_by_definition(static_cast<std::uint16_t>(i)), middle = 0.5 * (low + float16_by_definition(static_cast<std::uint16_t>(i + 1)));
    REQUIRE(float16(low).bits == i);
    REQUIRE(float16(middle).bits == i + (i & 1));
    REQUIRE(float16(std::nextafter(middle, 0.0)).bits == i);
    REQUIRE(float16(std::nextafter(middle, 1e9)).bits == i + 1);
    REQUIRE(float16(-std::nextafter(middle, 1e9)).bits == ((i + 1) | 0x8000));
  }
  CHECK(float16(0x1.ffdfffffffffp15).bits == 0x7bff);  // below 65520
  CHECK(float16(65520.0).bits == 0x7c00);
  CHECK(bfloat16(1e300).bits == 0x7f80);
  CHECK(float16(-1e-300).bits == 0x8000);
  CHECK(std::isnan(static_cast<float>(float16(std::numeric_limits<double>::quiet_NaN()))));
}
