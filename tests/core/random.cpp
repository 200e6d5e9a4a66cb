// Philox against its published vectors, and the distributions that are made of it.
// SPDX-License-Identifier: Apache-2.0
#include "golem/core/random.hpp"

#include <cmath>
#include <vector>

#include "catch.hpp"

using namespace golem;

TEST_CASE("philox gives the published words") {
  // Known-answer vectors of philox4x32-10, in the paper's reference distribution.
  const Bits4 zero = philox(0, 0, 0);
  CHECK(zero.word[0] == 0x6627e8d5u);
  CHECK(zero.word[1] == 0xe169c58du);
  CHECK(zero.word[2] == 0xbc57ac4cu);
  CHECK(zero.word[3] == 0x9b00dbd8u);
  const Bits4 ones = philox(~0ull, ~0ull, ~0ull);
  CHECK(ones.word[0] == 0x408f276du);
  CHECK(ones.word[1] == 0x41c83b0eu);
  CHECK(ones.word[2] == 0xa20bc7c6u);
  CHECK(ones.word[3] == 0x6d5451fdu);
  const Bits4 pi = philox(0x299f31d0a4093822ull, 0x0370734413198a2eull, 0x85a308d3243f6a88ull);
  CHECK(pi.word[0] == 0xd16cfe09u);
  CHECK(pi.word[1] == 0x94fdccebu);
  CHECK(pi.word[2] == 0x5001e420u);
  CHECK(pi.word[3] == 0x24126ea1u);
}

TEST_CASE("uniform, below and normal have the moments that they should") {
  const Random random{7, stream_of("test")};
  constexpr int n = 100000;
  double uniform = 0, normal = 0, squares = 0, fourth = 0;
  std::vector<int> counts(7);
  for (std::uint64_t i = 0; i < n; ++i) {
    const double u = random.uniform(i), z = random.normal(i);
    REQUIRE((u >= 0 && u < 1));
    uniform += u, normal += z, squares += z * z, fourth += z * z * z * z;
    ++counts[random.below(i, 7)];
  }
  CHECK(std::abs(uniform / n - 0.5) < 0.005);
  CHECK(std::abs(normal / n) < 0.015);
  CHECK(std::abs(squares / n - 1) < 0.02);
  CHECK(std::abs(fourth / n - 3) < 0.15);
  for (const int count : counts) CHECK(std::abs(count - n / 7.0) < 5 * std::sqrt(n / 7.0));
}

TEST_CASE("below reaches exactly its range, for any n") {
  for (const std::uint64_t n : {1ull, 2ull, 3ull, 1ull << 33, ~0ull})
    for (std::uint64_t i = 0; i < 200; ++i) REQUIRE(Random{1, 2}.below(i, n) < n);
  CHECK(Random{1, 2}.below(5, 1ull << 63) == ((std::uint64_t{Random{1, 2}.bits(5).word[0]} << 32 | Random{1, 2}.bits(5).word[1]) >> 1));
}

TEST_CASE("seeds and streams are independent") {
  int same = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    same += Random{1, 1}.below(i, 10) == Random{2, 1}.below(i, 10);
    same += Random{1, 1}.below(i, 10) == Random{1, 2}.below(i, 10);
  }
  CHECK(std::abs(same - 200) < 60);
}
