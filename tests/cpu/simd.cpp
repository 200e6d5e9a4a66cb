// The lanes of every instruction set: conversions agree with core/number.hpp bit for bit, transposition transposes, exp is exp.
// SPDX-License-Identifier: Apache-2.0
#include "golem/cpu/simd.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "catch.hpp"
#include "golem/core/random.hpp"
#include "golem/cpu/simd_exp.hpp"
#include "worse.hpp"

using namespace golem;

namespace {

/// to[i] = from[i], converted; the count is a multiple of 16.
struct Convert {
  template <int width, class To, class From>
  [[gnu::always_inline]] static inline void run(To* to, const From* from, std::int64_t count) {
    using V = cpu::Lanes<float, width>;
    for (std::int64_t i = 0; i < count; i += cpu::lane_count<V>) {
      V x;
      cpu::load(x, from + i);
      cpu::store(to + i, x);
    }
  }
};

template <class T>
struct Round {
  template <int width>
  [[gnu::always_inline]] static inline void run(float* values, std::int64_t count) {
    using V = cpu::Lanes<float, width>;
    for (std::int64_t i = 0; i < count; i += cpu::lane_count<V>) {
      V x;
      cpu::load(x, values + i);
      cpu::round_to<T>(x);
      cpu::store(values + i, x);
    }
  }
};

struct Exp {
  template <int width, class A>
  [[gnu::always_inline]] static inline void run(A* values, std::int64_t count) {
    using V = cpu::Lanes<A, width>;
    for (std::int64_t i = 0; i < count; i += cpu::lane_count<V>) {
      V x;
      cpu::load(x, values + i);
      cpu::exponentiate(x);
      cpu::store(values + i, x);
    }
  }
};

/// Transposes the upper left square, which has as many rows as a vector has lanes; returns that number.
struct Transpose {
  template <int width, class A>
  [[gnu::always_inline]] static inline void run(A* values, std::int64_t row, int* side) {
    using V = cpu::Lanes<A, width>;
    V square[cpu::lane_count<V>];
    for (int i = 0; i < cpu::lane_count<V>; ++i) cpu::load(square[i], values + i * row);
    cpu::transpose(square);
    for (int i = 0; i < cpu::lane_count<V>; ++i) cpu::store(values + i * row, square[i]);
    *side = cpu::lane_count<V>;
  }
};

std::vector<cpu::Isa> isas() {
  std::vector<cpu::Isa> all;
  for (const cpu::Isa isa : {cpu::Isa::plain, cpu::Isa::avx2, cpu::Isa::avx512})
    if (isa <= cpu::detect_isa()) all.push_back(isa);
  return all;
}

/// Floats of every sign, exponent and kind, with mantissas at and next to where 16 bits round.
std::vector<float> interesting_floats() {
  std::vector<float> values;
  for (std::uint32_t high = 0; high < 65536; high += 7)
    for (const std::uint32_t low : {0u, 1u, 0x0fffu, 0x1000u, 0x1001u, 0x2fffu, 0x3000u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
      values.push_back(bits_as<float>(high << 16 | low));
  while (values.size() % 16) values.push_back(0);
  return values;
}

}  // namespace

TEMPLATE_TEST_CASE("lanes widen every 16-bit pattern, and narrow floats, as core/number.hpp does", "", bfloat16, float16) {
  using T = TestType;
  std::vector<T> patterns(65536);
  for (int i = 0; i < 65536; ++i) patterns[i] = T::from_bits(static_cast<std::uint16_t>(i));
  const std::vector<float> floats = interesting_floats();
  const auto count = static_cast<std::int64_t>(floats.size());
  for (const cpu::Isa isa : isas()) {
    INFO(cpu::name_of(isa));
    std::vector<float> wide(65536);
    cpu::run_on<Convert>(isa, wide.data(), static_cast<const T*>(patterns.data()), std::int64_t{65536});
    for (int i = 0; i < 65536; ++i) {
      const auto expected = static_cast<float>(patterns[i]);
      REQUIRE((std::isnan(expected) ? std::isnan(wide[i]) : bits_as<std::uint32_t>(wide[i]) == bits_as<std::uint32_t>(expected)));
    }
    std::vector<T> narrow(floats.size());
    cpu::run_on<Convert>(isa, narrow.data(), floats.data(), count);
    std::vector<float> rounded = floats;
    cpu::run_on<Round<T>>(isa, rounded.data(), count);
    for (std::size_t i = 0; i < floats.size(); ++i) {
      REQUIRE(narrow[i].bits == T(floats[i]).bits);
      if (!std::isnan(floats[i])) REQUIRE(rounded[i] == static_cast<float>(T(floats[i])));
    }
  }
}

TEMPLATE_TEST_CASE("exponentiate is within two units in the last place, zero below the normal numbers, and keeps NaN", "", float, double) {
  using A = TestType;
  const A highest = sizeof(A) == 4 ? A(88) : A(709), lowest = cpu::ExpConstants<A>::lowest, infinity = std::numeric_limits<A>::infinity();
  for (const cpu::Isa isa : isas()) {
    INFO(cpu::name_of(isa));
    std::vector<A> x(160000);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double u = Random{1, 2}.uniform(i);
      x[i] = i % 2 ? static_cast<A>(lowest + u * (highest - lowest)) : static_cast<A>(2 * u - 1);
    }
    std::vector<A> y = x;
    cpu::run_on<Exp>(isa, y.data(), static_cast<std::int64_t>(y.size()));
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const long double exact = std::exp(static_cast<long double>(x[i]));
      const A unit = std::nextafter(static_cast<A>(exact), infinity) - static_cast<A>(exact);
      worst = tests::worse(worst, std::abs(static_cast<double>((static_cast<long double>(y[i]) - exact) / static_cast<long double>(unit))));
    }
    CHECK(worst < 2);

    std::vector<A> special(16, A(0));
    special[1] = -infinity;
    special[2] = std::numeric_limits<A>::quiet_NaN();
    special[3] = lowest - 1;
    special[4] = std::numeric_limits<A>::lowest();
    cpu::run_on<Exp>(isa, special.data(), std::int64_t{16});
    CHECK(special[0] == 1);
    CHECK(special[1] == 0);
    CHECK(std::isnan(special[2]));
    CHECK(special[3] == 0);
    CHECK(special[4] == 0);

    using Bits = std::make_unsigned_t<cpu::lane_integer_t<A>>;
    std::vector<A> nans;
    for (const Bits sign : {Bits{0}, Bits{1}})
      for (Bits payload = 1; payload < (Bits{1} << cpu::ExpConstants<A>::mantissa_bits); payload = payload * 5 / 4 + 1)
        for (const Bits low : {Bits{0}, Bits{255}}) nans.push_back(bits_as<A>((bits_as<Bits>(infinity) | payload | low) ^ sign << (sizeof(A) * 8 - 1)));
    while (nans.size() % 16) nans.push_back(nans.back());
    cpu::run_on<Exp>(isa, nans.data(), static_cast<std::int64_t>(nans.size()));
    CHECK(std::all_of(nans.begin(), nans.end(), [](A value) { return std::isnan(value); }));
  }
}

TEMPLATE_TEST_CASE("transpose swaps rows and lanes", "", float, double) {
  for (const cpu::Isa isa : isas()) {
    std::vector<TestType> values(256);
    for (int i = 0; i < 256; ++i) values[i] = TestType(i);
    int side = 0;
    cpu::run_on<Transpose>(isa, values.data(), std::int64_t{16}, &side);
    REQUIRE(side >= 2);
    for (int i = 0; i < side; ++i)
      for (int j = 0; j < side; ++j) REQUIRE(values[i * 16 + j] == TestType(j * 16 + i));
  }
}
