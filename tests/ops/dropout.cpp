// Dropout against the random bits that it says it uses.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <utility>

#include "ops/numbers.hpp"

using namespace ops;

TEST_CASE("dropout keeps what its random halves say, scales it, and is the same in the backward") {
  for (const std::int64_t size : {1, 7, 8, 5000}) {
    Numbers<float> x(size, 1), y(size), again(size);
    const Random random{5, 6};
    cpu::Device device({.threads = 3});
    const View<float, 2> out{y.typed.data(), 1, size};
    drop(device, out, x.matrix(1), 0.25, random, 0);
    int kept = 0;
    for (std::int64_t i = 0; i < size; ++i) {
      const std::uint32_t half = random.bits(static_cast<std::uint64_t>(i) / 8).word[i % 8 / 2] >> (16 * (i % 2)) & 0xffff;
      kept += half >= 16384;
      REQUIRE(y.typed[static_cast<std::size_t>(i)] == (half >= 16384 ? x.typed[static_cast<std::size_t>(i)] * (1 / 0.75f) : 0.0f));
    }
    if (size == 5000) CHECK(std::abs(kept / 5000.0 - 0.75) < 0.03);
  }
}

TEST_CASE("parts of what is dropped lose what the whole would") {
  const std::int64_t size = 9001;
  Numbers<float> x(size, 1), whole(size), parts(size);
  cpu::Device device({.threads = 3});
  drop(device, View<float, 2>{whole.typed.data(), 1, size}, x.matrix(1), 0.25, Random{5, 6}, 0);
  for (const auto& [first, count] : {std::pair<std::int64_t, std::int64_t>{0, 3}, {3, 4094}, {4097, 1}, {4098, 4903}})
    drop(device, View<float, 2>{parts.typed.data() + first, 1, count}, View<const float, 2>{x.typed.data() + first, 1, count}, 0.25, Random{5, 6}, first);
  CHECK(parts.typed == whole.typed);
}
