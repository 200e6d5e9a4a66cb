// cpu::Device: its threads, what a body may rely on in `parallel`, and scratch memory.
// SPDX-License-Identifier: Apache-2.0
#include "golem/cpu/device.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "catch.hpp"

using namespace golem;

TEST_CASE("parallel calls each index once, on any number of threads") {
  for (const int threads : {1, 2, 3}) {
    cpu::Device device({.threads = threads});
    for (const std::int64_t count : {0, 1, 2, 17}) {
      std::vector<std::atomic<int>> calls(static_cast<std::size_t>(count));
      device.parallel(count, [&](std::int64_t i) { ++calls[static_cast<std::size_t>(i)]; });
      device.parallel_uneven(count, [&](std::int64_t i) { ++calls[static_cast<std::size_t>(i)]; });
      for (const auto& c : calls) CHECK(c == 2);
    }
  }
}

TEST_CASE("more threads than any machine has are refused") {
  CHECK_THROWS_WITH(cpu::Device({.threads = 100000}), Catch::Matchers::Contains("asked for 100000 threads: ask for at most "));
  CHECK(cpu::Device({.threads = 1024}).threads() == 1024);
}

TEST_CASE("an error on a thread is thrown behind the region, and the device goes on") {
  for (const int threads : {1, 2}) {
    cpu::Device device({.threads = threads});
    std::atomic<int> calls = 0;
    const auto break_at_two = [&](std::int64_t i) {
      ++calls;
      if (i == 2) fail("piece ", i, " is broken");
    };
    CHECK_THROWS_WITH(device.parallel(5, break_at_two), Catch::Matchers::Contains("piece 2 is broken"));
    CHECK_THROWS_WITH(device.parallel_uneven(5, break_at_two), Catch::Matchers::Contains("piece 2 is broken"));
    CHECK(calls == 10);
    CHECK_THROWS_WITH(device.parallel(2, [&](std::int64_t) { device.scratch<char>(std::int64_t{1} << 60); }), Catch::Matchers::Contains("out of memory"));
    device.parallel(2, [&](std::int64_t) { device.scratch<char>(64)[63] = 1; });
    CHECK(device.memory().of("workspace") <= 2 * 64);
  }
}

#if defined(__x86_64__)
TEST_CASE("subnormal results are 0 in parallel, and what they were outside; operands keep their values") {
  volatile float small = 1e-30f;
  const auto subnormal = [&] { return small * 1e-10f; };
  const float stored = subnormal();
  REQUIRE(stored > 0);
  volatile const float* operand = &stored;
  cpu::Device device({.threads = 2});
  for (const std::size_t count : {1, 2}) {
    std::vector<float> results(count, 1.0f), read(count);
    device.parallel(static_cast<std::int64_t>(count), [&](std::int64_t i) {
      results[static_cast<std::size_t>(i)] = subnormal();
      read[static_cast<std::size_t>(i)] = *operand * 1e20f;
    });
    CHECK(results == std::vector<float>(count, 0.0f));
    for (const float x : read) CHECK(x == Approx(1e-20f));
    CHECK(subnormal() > 0);
  }
}
#endif

TEST_CASE("a thread's scratch memory lasts until its next call and is aligned") {
  cpu::Device device({.threads = 2});
  std::vector<int> seen(2);
  device.parallel(2, [&](std::int64_t i) {
    int* mine = device.scratch<int>(1000);
    for (int k = 0; k < 1000; ++k) mine[k] = static_cast<int>(i);
    bool whole = reinterpret_cast<std::uintptr_t>(mine) % 64 == 0;
    for (int k = 0; k < 1000; ++k) whole = whole && mine[k] == static_cast<int>(i);
    seen[static_cast<std::size_t>(i)] = whole;
  });
  CHECK(seen == std::vector<int>{1, 1});
  CHECK(device.memory().of("workspace") > 0);
}

TEST_CASE("clear clears what it was asked for and no byte more, also in several pieces") {
  cpu::Device device({.threads = 2});
  for (const std::size_t bytes : {1, 1000, 1 << 20, (1 << 20) + 1, (3 << 20) + 7}) {
    std::vector<unsigned char> memory(bytes + 2, 0xab);
    device.clear(memory.data() + 1, bytes);
    CHECK(memory.front() == 0xab);
    CHECK(memory.back() == 0xab);
    CHECK(std::count(memory.begin(), memory.end(), 0) == static_cast<std::ptrdiff_t>(bytes));
  }
}
