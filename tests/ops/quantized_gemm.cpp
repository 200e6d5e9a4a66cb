// project for quantised weights: against the definition in double, on every instruction set, for any number of threads.
// SPDX-License-Identifier: Apache-2.0
#include "golem/cpu/quantized_gemm.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "catch.hpp"
#include "golem/core/random.hpp"
#include "oracle/quantized_gemm.hpp"

using golem::Activations, golem::bfloat16, golem::float16, golem::Quant, golem::QuantizedView, golem::View;
using golem::cpu::Isa;

namespace {

template <class T>
constexpr double unit_roundoff = std::is_same_v<T, double>    ? 0x1p-53
                                 : std::is_same_v<T, float>   ? 0x1p-24
                                 : std::is_same_v<T, float16> ? 0x1p-11
                                                              : 0x1p-8;

/// A product with random integers over their whole range, and memory that ends where the matrix does.
template <class T, Quant Q>
struct Case {
  std::int64_t tokens, rows, columns;
  std::vector<std::uint8_t> bytes;
  std::vector<float16> scales;
  std::vector<T> x, bias;

  Case(std::int64_t tokens, std::int64_t rows, std::int64_t columns) : tokens(tokens), rows(rows), columns(columns) {
    const golem::Random random{.seed = 3, .stream = static_cast<std::uint64_t>(tokens * 1000003 + rows * 1009 + columns)};
    std::uint64_t index = 0;
    const auto integer = [&] { return static_cast<int>(random.below(index++, 2 * Q.max() + 1)) - Q.max(); };
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t b = 0; b < Q.row_bytes(columns); ++b) {
        const int even = integer(), odd = integer();
        bytes.push_back(Q.bits == 8 ? static_cast<std::uint8_t>(even) : golem::pack_int4(even, 2 * b + 1 < columns ? odd : 0));
      }
      for (std::int64_t g = 0; g < Q.groups(columns); ++g) scales.push_back(float16(0.01 + 0.02 * random.uniform(index++)));
      bias.push_back(T(random.normal(index++)));
    }
    for (std::int64_t i = 0; i < tokens * columns; ++i) x.push_back(T(random.normal(index++) * (i % 53 == 0 ? 30 : 1)));  // outliers
  }

  QuantizedView<Q> w() const { return {rows, columns, bytes.data(), scales.data()}; }

  std::vector<T> project(golem::cpu::Device& device, bool biased = true) const {
    std::vector<T> y(static_cast<std::size_t>(tokens * rows), T(-7.0f));
    const View<const T, 1> b(biased ? bias.data() : nullptr, rows);
    golem::cpu::project(device, View<T, 2>(y.data(), tokens, rows), View<const T, 2>(x.data(), tokens, columns), w(), b);
    return y;
  }

  void check(golem::cpu::Device& device, bool biased = true) const {
    std::vector<double> wide_x, wide_bias, magnitude;
    for (const T v : x) wide_x.push_back(static_cast<double>(v));
    for (const T v : bias) wide_bias.push_back(static_cast<double>(v));
    if (!biased) wide_bias.clear();
    const std::vector<double> expected = oracle::project(wide_x, w(), wide_bias, magnitude);
    const std::vector<T> y = project(device, biased);
    for (std::size_t i = 0; i < y.size(); ++i) {
      // Sums in float of some hundred terms, or of 16 bits for bfloat16; then one rounding. int8 scales are float even where T is double.
      const double sum_error = std::is_same_v<T, bfloat16>                                        ? 0x1p-13
                               : std::is_same_v<T, double> && Q.activations == Activations::exact ? 0x1p-48
                                                                                                  : 0x1p-20;
      INFO(golem::cpu::name_of(device.isa()) << ", " << tokens << " tokens, (" << rows << ", " << columns << "), element " << i);
      REQUIRE(std::fabs(static_cast<double>(y[i]) - expected[i]) <= sum_error * magnitude[i] + unit_roundoff<T> * std::fabs(expected[i]));
    }
  }
};

std::vector<Isa> levels() {
  std::vector<Isa> out;
  for (int level = 0; level <= static_cast<int>(golem::cpu::detect_isa()); ++level) out.push_back(static_cast<Isa>(level));
  return out;
}

template <class T, Quant Q>
void check_all(std::int64_t tokens, std::int64_t rows, std::int64_t columns) {
  const Case<T, Q> product(tokens, rows, columns);
  for (const Isa isa : levels()) {
    golem::cpu::Device one({.threads = 1, .isa = isa}), two({.threads = 2, .isa = isa}), three({.threads = 3, .isa = isa});
    product.check(two);
    const auto y = product.project(one);
    REQUIRE(y == product.project(two));
    REQUIRE(y == product.project(three));
  }
}

template <Quant Q>
struct Format {
  static constexpr Quant quant = Q;
};

constexpr Activations int8 = Activations::int8;

}  // namespace

TEMPLATE_TEST_CASE("a quantised product is its definition, for every number of tokens", "", (Format<Quant{.bits = 8}>), (Format<Quant{.bits = 4}>),
                   (Format<Quant{.bits = 4, .group = 32}>), (Format<Quant{.bits = 8, .group = 64}>), (Format<Quant{.bits = 4, .group = 256}>),
                   (Format<Quant{.bits = 8, .group = 0, .activations = int8}>), (Format<Quant{.bits = 4, .group = 0, .activations = int8}>),
                   (Format<Quant{.bits = 8, .group = 32, .activations = int8}>), (Format<Quant{.bits = 4, .group = 32, .activations = int8}>),
                   (Format<Quant{.bits = 8, .group = 64, .activations = int8}>), (Format<Quant{.bits = 4, .group = 64, .activations = int8}>),
                   (Format<Quant{.bits = 4, .group = 128, .activations = int8}>), (Format<Quant{.bits = 8, .group = 256, .activations = int8}>)) {
  constexpr Quant Q = TestType::quant;
  check_all<float, Q>(1, 37, 333);
  check_all<float, Q>(1, 16, 1);
  check_all<float, Q>(3, 5, 127);
  check_all<float, Q>(4, 70, 257);
  check_all<float, Q>(7, 65, 512);
  check_all<float, Q>(23, 67, 391);
}

TEMPLATE_TEST_CASE("a quantised product in other types rounds each result once", "", double, float16, bfloat16) {
  for (const std::int64_t tokens : {1, 9}) {
    check_all<TestType, Quant{.bits = 4, .group = 64}>(tokens, 66, 199);
    check_all<TestType, Quant{.bits = 8}>(tokens, 66, 199);
    check_all<TestType, Quant{.bits = 4, .group = 0, .activations = int8}>(tokens, 66, 199);
    check_all<TestType, Quant{.bits = 8, .group = 32, .activations = int8}>(tokens, 66, 199);
  }
}

TEST_CASE("a quantised product does without a bias, and of no tokens is nothing") {
  golem::cpu::Device device({.threads = 1});
  Case<float, Quant{.bits = 4}>(2, 20, 96).check(device, false);
  CHECK(Case<float, Quant{.bits = 4}>(0, 20, 96).project(device).empty());
}

TEST_CASE("an activation that is NaN or infinite makes its token's results NaN or infinite, and no other's") {
  for (const float broken : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const Isa isa : levels()) {
      golem::cpu::Device device({.threads = 1, .isa = isa});
      const auto check = [&](auto product) {
        product.x[100] = broken;  // of token 0
        const auto y = product.project(device);
        for (std::size_t i = 0; i < y.size(); ++i) REQUIRE(std::isfinite(y[i]) == (i >= 20));
      };
      check(Case<float, Quant{.bits = 8, .activations = int8}>(2, 20, 256));
      check(Case<float, Quant{.bits = 4, .activations = int8}>(2, 20, 256));
      check(Case<float, Quant{.bits = 4, .activations = int8}>(9, 20, 256));
    }
}

TEST_CASE("a quantised product of matrices that do not fit is refused with their shapes") {
  golem::cpu::Device device({.threads = 1});
  const Case<float, Quant{.bits = 8}> product(2, 20, 96);
  std::vector<float> y(64);
  CHECK_THROWS_WITH(golem::cpu::project(device, View<float, 2>(y.data(), 2, 21), View<const float, 2>(product.x.data(), 2, 96), product.w(),
                                        View<const float, 1>{}),
                    Catch::Matchers::Contains("y (2, 21)") && Catch::Matchers::Contains("(20, 96)"));
}
