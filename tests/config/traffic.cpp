// Bytes on the wire and their time, against a ring that is walked step by step.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/traffic.hpp"

#include <vector>

#include "catch.hpp"

using namespace golem;

namespace {

/// Bytes that each rank sends in a ring reduce-scatter of `elements`, cut as evenly as they divide, by walking it.
std::vector<double> ring_scatter(int elements, int ranks) {
  std::vector<double> sent(static_cast<std::size_t>(ranks), 0);
  for (int step = 0; step < ranks - 1; ++step)
    for (int rank = 0; rank < ranks; ++rank) {
      const int piece = (rank - step - 1 + 2 * ranks) % ranks;
      sent[static_cast<std::size_t>(rank)] += 4.0 * (elements * (piece + 1) / ranks - elements * piece / ranks);
    }
  return sent;
}

}  // namespace

TEST_CASE("a ring sends what the formula says") {
  for (int ranks = 1; ranks <= 9; ++ranks) {
    double all = 0;
    for (const double sent : ring_scatter(ranks * 7, ranks)) {
      CHECK(sent == Approx(scatter_bytes(4.0 * 7 * ranks, ranks)).margin(1e-9));
      all += 2 * sent;
    }
    CHECK(all == Approx(ranks * all_reduce_bytes(4.0 * 7 * ranks, ranks)).margin(1e-9));
  }
}

TEST_CASE("a group of one takes no time, and larger groups approach twice the bytes") {
  const Link link{1e9, 1e-6};
  CHECK(all_reduce_seconds(1e9, 1, link) == 0);
  CHECK(all_reduce_seconds(1e9, 2, link) == Approx(1 + 2e-6));
  CHECK(all_reduce_seconds(1e9, 1000, link) == Approx(1.998 + 1998e-6));
  CHECK(send_seconds(1e6, link) == Approx(1.001e-3));
}

TEST_CASE("groups use the links that their ranks are placed on") {
  const GroupLinks original = links_of(a100_40gb, {4, 8, 24}, 1);
  CHECK(original.tensor.bandwidth == 300e9);   // four of a node's eight
  CHECK(original.data.bandwidth == 50e9);      // four rings share eight adapters
  CHECK(original.pipeline.bandwidth == 25e9);  // each rank has one of its own
  CHECK(links_of(a100_40gb, {8, 1, 4}, 1).data.bandwidth == 25e9);
  CHECK(links_of(a100_40gb, {1, 1, 16}, 1).data.bandwidth == 200e9);
  CHECK(links_of(a100_40gb, {2, 1, 4}, 1).data.bandwidth == 300e9);
  CHECK(links_of(a100_40gb, {2, 2, 2}, 1).pipeline.bandwidth == 300e9);
  CHECK(links_of(a100_40gb, {16, 1, 1}, 0.5).tensor.bandwidth == 12.5e9);
}
