// The order of attention's blocks: each is there once, heads take turns within what the cache holds, and long blocks do not come last.
// SPDX-License-Identifier: Apache-2.0
#include "simt/simt.hpp"

#include "golem/cuda/attention_order.cuh"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <queue>
#include <set>
#include <tuple>
#include <vector>

#include "catch.hpp"
#include "golem/core/number.hpp"
#include "simt/runtime.hpp"

using namespace golem;
using cuda::BlockOrder, cuda::Launch;

namespace {

/// Calls visit(place) in the order in which a GPU starts the blocks of `rows` rows.
template <class Visit>
void for_each_block(const BlockOrder& order, int rows, Visit visit) {
  const Launch how = cuda::in_order("test", order, rows, 128, 0);
  for (unsigned z = 0; z < how.blocks_z; ++z)
    for (unsigned y = 0; y < how.blocks_y; ++y)
      for (unsigned x = 0; x < how.blocks; ++x) visit(order.place(x, y, z));
}

/// How much of the time that `places` blocks at a time take is work, where each begins when another has ended.
double busy(const BlockOrder& order, int rows, int places, double (*work_of)(int block, int blocks)) {
  std::priority_queue<double, std::vector<double>, std::greater<>> free_at;
  for (int i = 0; i < places; ++i) free_at.push(0);
  double work = 0, end = 0;
  for_each_block(order, rows, [&](const BlockOrder::Place& place) {
    const double own = place.head < order.heads ? work_of(place.block, order.blocks) : 0, begin = free_at.top();
    free_at.pop();
    free_at.push(begin + own);
    work += own, end = std::max(end, begin + own);
  });
  return work / places / end;
}

/// Tiles of 64 keys that 128 queries see, and the time of one and a half for the rest.
double causal(int block, int blocks) { return 2.0 * (blocks - block) + 1.5; }
double half_prefix(int block, int blocks) { return 2.0 * std::max(blocks - block, blocks / 2) + 1.5; }

}  // namespace

TEST_CASE("each block of each head is there once, and heads take turns within their section") {
  for (const BlockOrder& order : {BlockOrder(1, 1, 1), BlockOrder(3, 4, 3), BlockOrder(3, 4, 1), BlockOrder(3, 4, 100), BlockOrder(5, 7, 3)})
    for (const int rows : {1, 3}) {
      std::set<std::tuple<int, int, int>> seen;
      int section_before = 0, block_before = 0;
      for_each_block(order, rows, [&](const BlockOrder::Place& place) {
        if (place.head >= order.heads) return;
        REQUIRE((place.block >= 0 && place.block < order.blocks && place.head >= 0 && place.row >= 0 && place.row < rows));
        CHECK(seen.insert({place.block, place.head, place.row}).second);
        const int section = place.row * order.sections + place.head / order.section_heads;
        CHECK((section == section_before ? place.block >= block_before : section == section_before + 1));
        section_before = section, block_before = place.block;
      });
      CHECK(static_cast<int>(seen.size()) == order.blocks * order.heads * rows);
    }
}

TEST_CASE("the row of a section is exact, up to the last that a launch can have") {
  for (const int sections : {1, 2, 3, 7, 96, 255, 4097, 65535}) {
    const BlockOrder order(1, sections, 1);
    REQUIRE(order.sections == sections);
    for (unsigned z = 0; z < 65536; ++z) {
      const BlockOrder::Place place = order.place(0, 0, z);
      if (place.row != static_cast<int>(z) / sections || place.head != static_cast<int>(z) % sections) FAIL("section " << z << " of " << sections << " a row");
    }
  }
}

TEST_CASE("in turns, a GPU waits for its last blocks a few hundredths of the time, where it waits a seventh head after head") {
  for (const auto work : {causal, half_prefix}) {
    CHECK(busy(BlockOrder(16, 96, 1), 1, 264, work) < 0.87);
    CHECK(busy(BlockOrder(16, 96, 16), 1, 264, work) > 0.94);
    CHECK(busy(BlockOrder(16, 96, 1), 1, 132, work) < 0.94);
    CHECK(busy(BlockOrder(16, 96, 16), 1, 132, work) > 0.98);
    CHECK(busy(BlockOrder(16, 16, 1), 8, 132, work) < 0.95);
    CHECK(busy(BlockOrder(16, 16, 16), 8, 132, work) > 0.98);
  }
}

TEST_CASE("as many heads take turns as a third of the cache holds of what passes by") {
  const simt::MachineRestored restored;
  simt::machine().cache_bytes = 50 << 20;
  const cuda::Device device;
  cuda::AttentionShape<bfloat16> shape{};
  shape.rows = 2, shape.length = 2048, shape.heads = 96, shape.dims = 128;
  CHECK(order_blocks(device, shape, 16, 96, 96).section_heads == 16);  // of a megabyte of keys and values each
  CHECK(order_blocks(device, shape, 16, 96, 24).section_heads == 48);  // four heads share them: 66 are in two sections of 48
  CHECK(order_blocks(device, shape, 16, 24, 96).section_heads == 4);   // four heads' queries pass by each of 24 heads' keys
  shape.length = 1 << 20;
  CHECK(order_blocks(device, shape, 8192, 96, 96).section_heads == 1);
  shape.length = 16;
  CHECK(order_blocks(device, shape, 1, 96, 96).section_heads == 96);  // all of a row
}
