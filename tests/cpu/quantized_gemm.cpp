// What is the CPU's own of quantised products: the bits do not depend on the number of threads, on any instruction set.
// SPDX-License-Identifier: Apache-2.0
#include "golem/cpu/quantized_gemm.hpp"

#include <cstdint>

#include "catch.hpp"
#include "ops/quantized.hpp"

using namespace ops;

namespace {

template <class T, Quant Q>
void check_threads(std::int64_t tokens, std::int64_t rows, std::int64_t columns) {
  const QuantizedCase<T, Q> product(tokens, rows, columns);
  for (int level = 0; level <= static_cast<int>(cpu::detect_isa()); ++level) {
    const auto isa = static_cast<cpu::Isa>(level);
    INFO(cpu::name_of(isa));
    cpu::Device one({.threads = 1, .isa = isa}), two({.threads = 2, .isa = isa}), three({.threads = 3, .isa = isa});
    product.check(one);
    const auto y = product.product(one);
    REQUIRE(y == product.product(two));
    REQUIRE(y == product.product(three));
  }
}

}  // namespace

TEMPLATE_TEST_CASE("a quantised product does not depend on the number of threads", "", (QuantFormat<Quant{.bits = 8}>), (QuantFormat<Quant{.bits = 4}>),
                   (QuantFormat<Quant{.bits = 4, .group = 256}>), (QuantFormat<Quant{.bits = 8, .activations = Activations::int8}>),
                   (QuantFormat<Quant{.bits = 4, .group = 64, .activations = Activations::int8}>)) {
  constexpr Quant Q = TestType::quant;
  check_threads<float, Q>(1, 37, 333);
  check_threads<float, Q>(4, 70, 257);
  check_threads<float, Q>(23, 67, 391);
  check_threads<bfloat16, Q>(9, 66, 199);
}
