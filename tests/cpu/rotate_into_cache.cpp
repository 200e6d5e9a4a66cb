// What is the CPU's own of filling a key-value cache: tokens are proved to fit before anything is written.
// SPDX-License-Identifier: Apache-2.0
#include "golem/cpu/rotate_into_cache.hpp"

#include <vector>

#include "catch.hpp"

using namespace golem;

TEST_CASE("tokens that do not fit the cache are refused, and nothing is written") {
  cpu::Device device({.threads = 1});
  std::vector<float> qkv(8 * 2 * 3 * 4, 1), memory(2 * 16 * 4), turns(16 * 2, 0.5f);
  const std::vector<std::int32_t> positions(8);
  const View<float, 4> tokens(qkv.data(), 8, 2, 3, 4), cache(memory.data(), 1, 2, 16, 4);
  const View<const float, 2> angles(turns.data(), 16, 2);
  const auto fill = [&](const CachedSequence& sequence, std::int64_t known_positions = 8) {
    rotate_into_cache(device, cache, cache, tokens, angles, angles, {positions.data(), known_positions}, {&sequence, 1});
  };
  const auto refused = [&](const CachedSequence& sequence, const char* why) { CHECK_THROWS_WITH(fill(sequence), Catch::Matchers::Contains(why)); };
  refused({.row = 0, .count = 8, .first = 10, .slot = 0}, "tokens 10 to 18");
  refused({.row = 0, .count = 8, .first = -1, .slot = 0}, "tokens -1 to 7");
  refused({.row = 1, .count = 8, .first = 0, .slot = 0}, "from row 1 of 8");
  refused({.row = 0, .count = 8, .first = 0, .slot = 1}, "for slot 1");
  CHECK_THROWS_WITH(fill({.row = 0, .count = 8, .first = 0, .slot = 0}, 7), Catch::Matchers::Contains("and 7 positions"));
  const CachedSequence whole{.row = 0, .count = 8, .first = 0, .slot = 0};
  const auto fill_by = [&](const View<const float, 2>& sines, std::int64_t dims) {
    const View<float, 4> some(qkv.data(), 8, 2, 3, dims), room(memory.data(), 1, 2, 16, dims);
    rotate_into_cache(device, room, room, some, angles, sines, {positions.data(), 8}, {&whole, 1});
  };
  CHECK_THROWS_WITH(fill_by({turns.data(), 8, 2}, 4), Catch::Matchers::Contains("sines (8, 2)"));
  CHECK_THROWS_WITH(fill_by(angles, 5), Catch::Matchers::Contains("an even D"));
  CHECK(qkv == std::vector<float>(qkv.size(), 1));
  CHECK(memory == std::vector<float>(memory.size()));
}
