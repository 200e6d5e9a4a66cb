// Views, buffers, arenas and the account of memory.
// SPDX-License-Identifier: Apache-2.0
#include "golem/core/buffer.hpp"

#include "catch.hpp"
#include "golem/core/device.hpp"
#include "golem/core/function_ref.hpp"
#include "golem/cpu/device.hpp"

using namespace golem;

static_assert(Device<cpu::Device>);

TEST_CASE("a view indexes row-major, cuts rows, and is a view of const") {
  int data[24];
  for (int i = 0; i < 24; ++i) data[i] = i;
  const View<int, 3> view{data, 2, 3, 4};
  CHECK(view(1, 2, 3) == 23);
  CHECK(view(0, 1, 2) == 6);
  CHECK(*view.row(1) == 12);
  CHECK(view.rows(1, 1)(0, 0, 1) == 13);
  CHECK(view.reshaped(6, 4)(5, 0) == 20);
  const View<const int, 3> read_only = view;
  CHECK(read_only(1, 0, 0) == 12);
  CHECK(sentence(shape_of(view)) == "(2, 3, 4)");
  CHECK_FALSE(View<int, 1>{});
}

TEST_CASE("buffers are zeroed, aligned, accounted by label, and give back what they took") {
  cpu::Device device({.threads = 1});
  {
    Buffer<float, cpu::Device> a(device, 100, "weights");
    Buffer<double, cpu::Device> b(device, 10, "moments");
    CHECK(a.data()[99] == 0);
    CHECK(reinterpret_cast<std::uintptr_t>(a.data()) % 64 == 0);
    CHECK(device.memory().of("weights") == 400);
    CHECK(device.memory().current() == 480);
    CHECK_THROWS_WITH(a.view_at(90, 11), Catch::Matchers::Contains("does not fit the buffer 'weights' of 100"));
    Buffer<float, cpu::Device> c = std::move(a);
    CHECK(device.memory().current() == 480);
    CHECK(c.size() == 100);
  }
  CHECK(device.memory().current() == 0);
  CHECK(device.memory().peak() == 480);
}

TEST_CASE("running out of memory says who holds what") {
  cpu::Device device({.threads = 1});
  const Buffer<char, cpu::Device> held(device, 5 << 20, "gradients"), parameters(device, 2 << 20, "parameters"), more(device, 3 << 20, "gradients");
  static_cast<void>(Buffer<char, cpu::Device>(device, 1 << 20, "batch"));  // given back
  CHECK(device.memory().of("gradients") == 8 << 20);
  CHECK(device.memory().of("batch") == 0);
  CHECK(device.memory().of("moments") == 0);
  CHECK_THROWS_WITH((Buffer<char, cpu::Device>(device, std::int64_t{1} << 60, "moments")),
                    Catch::Matchers::Contains("asked for 'moments'") && Catch::Matchers::Contains("golem holds gradients 8 MiB, parameters 2 MiB;"));
}

TEST_CASE("an arena measures without memory, and refuses more than was measured") {
  Arena measure;
  measure.take<float>(3, 5);
  measure.take<double>(2);
  CHECK(measure.used() == 128);
  cpu::Device device({.threads = 1});
  Buffer<std::byte, cpu::Device> memory(device, 128, "activations");
  Arena arena(memory.data(), memory.bytes());
  CHECK(arena.take<float>(3, 5).size() == 15);
  CHECK(static_cast<void*>(arena.take<double>(2).data) == memory.data() + 64);
  CHECK_THROWS_WITH(arena.take<char>(1), Catch::Matchers::Contains("measured with other shapes"));
}

TEST_CASE("a device refuses an instruction set that the processor lacks, and runs every index once on any number of threads") {
  for (const int threads : {1, 2, 5}) {
    cpu::Device device({.threads = threads});
    std::vector<int> hits(1000);
    device.parallel(1000, [&](std::int64_t i) { ++hits[static_cast<std::size_t>(i)]; });
    device.parallel_uneven(1000, [&](std::int64_t i) { ++hits[static_cast<std::size_t>(i)]; });
    for (const int hit : hits) REQUIRE(hit == 2);
  }
}

static int doubled(int x) { return 2 * x; }

TEST_CASE("function_ref calls what it refers to") {
  int calls = 0;
  auto count = [&](int by) { return calls += by; };
  const function_ref<int(int)> ref = count;
  CHECK(ref(2) == 2);
  CHECK(ref(3) == 5);
  CHECK_FALSE(function_ref<int(int)>{});
  const function_ref<int(int)> plain = doubled;
  CHECK(plain(21) == 42);
}
