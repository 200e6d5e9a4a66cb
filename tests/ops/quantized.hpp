// A quantised product with random integers, for every engine, and how near it must come to its definition in double.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "golem/config/plan_inference.hpp"
#include "ops/numbers.hpp"
#include "oracle/quantized_gemm.hpp"

namespace ops {

template <class T>
constexpr double unit_roundoff = std::is_same_v<T, double>    ? 0x1p-53
                                 : std::is_same_v<T, float>   ? 0x1p-24
                                 : std::is_same_v<T, float16> ? 0x1p-11
                                                              : 0x1p-8;

/// Integers over their whole range, and memory that ends where the matrix does.
template <class T, Quant Q>
struct QuantizedCase {
  std::int64_t tokens, rows, columns;
  std::vector<std::uint8_t> bytes;
  std::vector<float16> scales;
  std::vector<T> x, bias;

  QuantizedCase(std::int64_t tokens, std::int64_t rows, std::int64_t columns) : tokens(tokens), rows(rows), columns(columns) {
    const Random random{.seed = 3, .stream = static_cast<std::uint64_t>(tokens * 1000003 + rows * 1009 + columns)};
    std::uint64_t index = 0;
    const auto integer = [&] { return static_cast<int>(random.below(index++, 2 * Q.max() + 1)) - Q.max(); };
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t b = 0; b < Q.row_bytes(columns); ++b) {
        const int even = integer(), odd = integer();
        bytes.push_back(Q.bits == 8 ? static_cast<std::uint8_t>(even) : pack_int4(even, 2 * b + 1 < columns ? odd : 0));
      }
      for (std::int64_t g = 0; g < Q.groups(columns); ++g) scales.push_back(float16(0.01 + 0.02 * random.uniform(index++)));
      bias.push_back(T(random.normal(index++)));
    }
    for (std::int64_t i = 0; i < tokens * columns; ++i) x.push_back(T(random.normal(index++) * (i % 53 == 0 ? 30 : 1)));  // outliers
  }

  template <class D>
  std::vector<T> product(D& device, bool biased = true) const {
    const auto bytes_ = upload(device, bytes);
    const auto scales_ = upload(device, scales);
    const auto x_ = upload(device, x), bias_ = upload(device, bias), y_ = upload(device, std::vector<T>(static_cast<std::size_t>(tokens * rows), T(-7.0f)));
    project(device, View<T, 2>(y_.data(), tokens, rows), View<const T, 2>(x_.data(), tokens, columns), QuantizedView<Q>(rows, columns, bytes_.data(), scales_.data()),
            View<const T, 1>(biased ? bias_.data() : nullptr, rows));
    return download(device, y_);
  }

  template <class D>
  void check(D& device, bool biased = true) const {
    std::vector<double> wide_x, wide_bias, magnitude;
    for (const T v : x) wide_x.push_back(static_cast<double>(v));
    for (const T v : bias) wide_bias.push_back(static_cast<double>(v));
    if (!biased) wide_bias.clear();
    const QuantizedView<Q> weights(rows, columns, bytes.data(), scales.data());
    const bool by_elements = !D::host_memory && Q.activations == Activations::exact && tokens >= fewest_dequantized_tokens;
    const std::vector<double> expected = by_elements ? ::oracle::project<T>(wide_x, weights, wide_bias, magnitude) : ::oracle::project(wide_x, weights, wide_bias, magnitude);
    const std::vector<T> y = product(device, biased);
    for (std::size_t i = 0; i < y.size(); ++i) {
      // Sums in float of some hundred terms, or of 16 bits for bfloat16; then one rounding. int8 scales are float even where T is double.
      const double sum_error = std::is_same_v<T, bfloat16>                                        ? 0x1p-13
                               : std::is_same_v<T, double> && Q.activations == Activations::exact ? 0x1p-48
                                                                                                  : 0x1p-20;
      INFO(tokens << " tokens, (" << rows << ", " << columns << "), element " << i << " is " << static_cast<double>(y[i]) << " and should be " << expected[i]);
      REQUIRE(std::fabs(static_cast<double>(y[i]) - expected[i]) <= sum_error * magnitude[i] + unit_roundoff<T> * std::fabs(expected[i]));
    }
  }
};

template <class T, Quant Q>
void check_quantized(std::int64_t tokens, std::int64_t rows, std::int64_t columns) {
  const QuantizedCase<T, Q> product(tokens, rows, columns);
  on_each_device([&](TestDevice& device) { product.check(device); });
}

template <Quant Q>
struct QuantFormat {
  static constexpr Quant quant = Q;
};

}  // namespace ops
