// project for quantised weights, on every engine, against the definition in double.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "ops/quantized.hpp"

using namespace ops;

namespace {

constexpr Activations int8 = Activations::int8;

}  // namespace

TEMPLATE_TEST_CASE("a quantised product is its definition, for every number of tokens", "", (QuantFormat<Quant{.bits = 8}>), (QuantFormat<Quant{.bits = 4}>),
                   (QuantFormat<Quant{.bits = 4, .group = 32}>), (QuantFormat<Quant{.bits = 8, .group = 64}>), (QuantFormat<Quant{.bits = 4, .group = 256}>),
                   (QuantFormat<Quant{.bits = 8, .group = 0, .activations = int8}>), (QuantFormat<Quant{.bits = 4, .group = 0, .activations = int8}>),
                   (QuantFormat<Quant{.bits = 8, .group = 32, .activations = int8}>), (QuantFormat<Quant{.bits = 4, .group = 32, .activations = int8}>),
                   (QuantFormat<Quant{.bits = 8, .group = 64, .activations = int8}>), (QuantFormat<Quant{.bits = 4, .group = 64, .activations = int8}>),
                   (QuantFormat<Quant{.bits = 4, .group = 128, .activations = int8}>), (QuantFormat<Quant{.bits = 8, .group = 256, .activations = int8}>)) {
  constexpr Quant Q = TestType::quant;
  check_quantized<float, Q>(1, 37, 333);
  check_quantized<float, Q>(1, 16, 1);
  check_quantized<float, Q>(3, 5, 127);
  check_quantized<float, Q>(4, 70, 257);
  check_quantized<float, Q>(7, 65, 512);
  check_quantized<float, Q>(23, 67, 391);
}

TEMPLATE_TEST_CASE("a quantised product in other types rounds each result once", "", double, float16, bfloat16) {
  for (const std::int64_t tokens : {1, 9, 19}) {
    check_quantized<TestType, Quant{.bits = 4, .group = 64}>(tokens, 66, 199);
    check_quantized<TestType, Quant{.bits = 8}>(tokens, 66, 199);
    check_quantized<TestType, Quant{.bits = 4, .group = 0, .activations = int8}>(tokens, 66, 199);
    check_quantized<TestType, Quant{.bits = 8, .group = 32, .activations = int8}>(tokens, 66, 199);
  }
}

// What matrix instructions can take, where an engine has them: whole pieces of columns, a last step that is not full, rows and tokens beyond a tile.
TEMPLATE_TEST_CASE("a quantised product of 16-bit numbers is its definition, for every number of tokens", "", float16, bfloat16) {
  const auto check = []<Quant Q>(QuantFormat<Q>) {
    for (const std::int64_t tokens : {1, 9, 37}) check_quantized<TestType, Q>(tokens, 37, 288);
    check_quantized<TestType, Q>(3, 16, 32);
    check_quantized<TestType, Q>(70, 18, 1056);
    check_quantized<TestType, Q>(2, 33, 2336);  // several steps of each warp
  };
  check(QuantFormat<Quant{.bits = 8}>());
  check(QuantFormat<Quant{.bits = 4}>());
  check(QuantFormat<Quant{.bits = 8, .group = 32}>());
  check(QuantFormat<Quant{.bits = 4, .group = 32}>());
  check(QuantFormat<Quant{.bits = 4, .group = 64}>());
  check(QuantFormat<Quant{.bits = 4, .group = 128}>());
}

TEMPLATE_TEST_CASE("a quantised product of many tokens is its definition", "", double, float, float16, bfloat16) {
  check_quantized<TestType, Quant{.bits = 4}>(128, 37, 99);
  check_quantized<TestType, Quant{.bits = 8}>(127, 24, 96);
  check_quantized<TestType, Quant{.bits = 4, .group = 64}>(200, 40, 288);
}

TEST_CASE("a quantised product does without a bias, and of no tokens is nothing") {
  on_each_device([](TestDevice& device) {
    QuantizedCase<float, Quant{.bits = 4}>(2, 20, 96).check(device, false);
    QuantizedCase<float16, Quant{.bits = 4}>(130, 20, 96).check(device, false);
    CHECK(QuantizedCase<float, Quant{.bits = 4}>(0, 20, 96).product(device).empty());
  });
}

TEST_CASE("an activation that is NaN or infinite makes its token's results NaN or infinite, and no other's") {
  for (const float broken : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    on_each_device([&](TestDevice& device) {
      const auto check = [&]<class T, Quant Q>(QuantizedCase<T, Q> product, std::size_t column = 100) {
        product.x[column] = T(broken);  // of token 0
        const auto y = product.product(device);
        for (std::size_t i = 0; i < y.size(); ++i) REQUIRE(std::isfinite(static_cast<double>(y[i])) == (i >= 20));
      };
      check(QuantizedCase<float, Quant{.bits = 8, .activations = int8}>(2, 20, 256));
      check(QuantizedCase<float, Quant{.bits = 4, .activations = int8}>(2, 20, 256));
      check(QuantizedCase<float, Quant{.bits = 4, .activations = int8}>(9, 20, 256));
      for (const std::int64_t tokens : {2, 9, 33})
        for (const std::size_t column : {std::size_t{100}, std::size_t{287}}) {  // the latter in a step that is not full
          check(QuantizedCase<float16, Quant{.bits = 4}>(tokens, 20, 288), column);
          check(QuantizedCase<bfloat16, Quant{.bits = 4}>(tokens, 20, 288), column);
          check(QuantizedCase<float16, Quant{.bits = 8}>(tokens, 20, 288), column);
        }
    });
}

TEST_CASE("a quantised product of matrices that do not fit is refused with their shapes") {
  on_each_device([](TestDevice& device) {
    const QuantizedCase<float, Quant{.bits = 8}> product(2, 20, 96);
    const QuantizedView<Quant{.bits = 8}> w(20, 96, product.bytes.data(), product.scales.data());
    const Tensor<float> y(device, 42), x(device, product.x);
    CHECK_THROWS_WITH(project(device, y.view(2, 21), x.view(2, 96), w, View<const float, 1>{}), Catch::Matchers::Contains("y (2, 21)") && Catch::Matchers::Contains("(20, 96)"));
  });
}

#if defined(GOLEM_TEST_CUDA)
TEST_CASE("a quantised product by matrix instructions is refused where the program was compiled for an older GPU") {
  for (const std::int64_t tokens : {1, 9, 70})
    check_compiled_for_7_5([&](TestDevice& device) { QuantizedCase<float16, Quant{.bits = 4}>(tokens, 20, 288).product(device); });
}
#endif
