// dequantize, on every engine, against its definition; and products of what it makes, as the original's.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <vector>

#include "golem/nn/weights.hpp"
#include "ops/quantized.hpp"

using namespace ops;

namespace {

template <class T, Quant Q>
void check_elements(std::int64_t rows, std::int64_t columns) {
  const QuantizedCase<T, Q> stored(1, rows, columns);
  const QuantizedView<Q> integers(rows, columns, stored.bytes.data(), stored.scales.data());
  on_each_device([&](TestDevice& device) {
    const auto bytes = upload(device, stored.bytes);
    const auto scales = upload(device, stored.scales);
    Buffer<T, TestDevice> w(device, rows * columns, "test");
    dequantize(device, View<T, 2>(w.data(), rows, columns), QuantizedView<Q>(rows, columns, bytes.data(), scales.data()));
    std::vector<T> elements(static_cast<std::size_t>(rows * columns));
    device.copy_out(elements.data(), w.data(), w.bytes());
    for (std::int64_t i = 0; i < rows * columns; ++i) {
      INFO("element " << i / columns << ", " << i % columns << " of " << rows << " x " << columns);
      REQUIRE(elements[static_cast<std::size_t>(i)] == T(static_cast<double>(integers.integer(i / columns, i % columns)) * static_cast<double>(integers.scale(i / columns, i % columns))));
    }
  });
}

}  // namespace

TEMPLATE_TEST_CASE("elements of a quantised matrix are integer times scale, rounded once", "", float, double, float16, bfloat16) {
  for (const std::int64_t columns : {1, 2, 33, 64, 136, 257}) {
    check_elements<TestType, Quant{.bits = 8}>(5, columns);
    check_elements<TestType, Quant{.bits = 4}>(5, columns);
    check_elements<TestType, Quant{.bits = 4, .group = 32}>(3, columns);
  }
}

TEMPLATE_TEST_CASE("a product of dequantised weights is that of its elements, and the bias joins behind it", "", float, float16) {
  constexpr Quant Q{.bits = 4};
  using T = TestType;
  for (const std::int64_t columns : {40, 63}) {
    constexpr std::int64_t tokens = 3, rows = 24;
    const QuantizedCase<T, Q> stored(tokens, rows, columns);
    std::vector<T> elements;
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < columns; ++c) {
        const QuantizedView<Q> w(rows, columns, stored.bytes.data(), stored.scales.data());
        elements.push_back(T(static_cast<float>(w.integer(r, c)) * w.scale(r, c)));
      }
    on_each_device([&](TestDevice& device) {
      const auto bytes = upload(device, stored.bytes);
      const auto scales = upload(device, stored.scales);
      const auto w = upload(device, elements), x = upload(device, stored.x), bias = upload(device, stored.bias);
      Buffer<T, TestDevice> room(device, rows * columns, "test"), y(device, tokens * rows, "test");
      const View<T, 2> out(y.data(), tokens, rows);
      const View<const T, 2> in(x.data(), tokens, columns);
      const auto read = [&] {
        std::vector<T> values(static_cast<std::size_t>(y.size()));
        device.copy_out(values.data(), y.data(), y.bytes());
        return values;
      };
      project(device, out, in, View<const T, 2>(w.data(), rows, columns), View<const T, 1>{});
      std::vector<T> expected = read();
      const DequantizedView<T, Q> dequantized{QuantizedView<Q>(rows, columns, bytes.data(), scales.data()), View<T, 2>(room.data(), rows, columns)};
      project(device, out, in, dequantized, View<const T, 1>{});
      CHECK(read() == expected);
      for (std::int64_t i = 0; i < tokens * rows; ++i) {
        auto& value = expected[static_cast<std::size_t>(i)];
        value = T(static_cast<float>(value) + static_cast<float>(stored.bias[static_cast<std::size_t>(i % rows)]));
      }
      project(device, out, in, dequantized, View<const T, 1>(bias.data(), rows));
      CHECK(read() == expected);
    });
  }
}
