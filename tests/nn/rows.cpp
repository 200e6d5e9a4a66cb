// Batches of one's own: what would make a layer read beyond its tables is refused with a sentence, before anything is computed.
// SPDX-License-Identifier: Apache-2.0
#include "golem/nn/rows.hpp"

#include <limits>

#include "catch.hpp"
#include "golem/cpu/device.hpp"
#include "train/models.hpp"

using namespace golem;

namespace {

constexpr ModelConfig model = models::Small<Norm::deep>::config;

/// Rows of 13 tokens of two windows each, one token of which may be seen before.
const Batch good = models::random_batch(3, 13, model.vocab, 1);

template <class Change>
void refused(Change change, const char* words) {
  cpu::Device device({.threads = 1});
  RowsOnDevice<cpu::Device> rows;
  rows.upload(device, good, model);
  Batch bad = good;
  change(bad);
  CHECK_THROWS_WITH(rows.upload(device, bad, model), Catch::Matchers::Contains(words));
}

}  // namespace

TEST_CASE("positions are rows of the rotary tables") {
  refused([](Batch& b) { b.positions[14] = model.context; }, "row 1 has position 24, and the model's context ends at 23");
  refused([](Batch& b) { b.positions.back() = -1; }, "row 2 has position -1");
}

TEST_CASE("windows lie in their row, ascend, and have their prefix inside") {
  constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max();
  refused([](Batch& b) { b.windows[1].end = 14; }, "row 0 of 13 tokens has a window of tokens 6 to 14");
  refused([](Batch& b) { b.windows[2].begin = -1; }, "row 1 of 13 tokens has a window of tokens -1");
  refused([](Batch& b) { b.windows[1].begin = 5; }, "behind one that ends at 6");
  refused([](Batch& b) { b.windows[1].end = 5; }, "do not overlap");
  refused([](Batch& b) { b.windows[4].prefix = -1; }, "row 2 has a prefix of -1 tokens");
  refused([](Batch& b) { b.windows[4].prefix = most; }, "a prefix lies inside its window");
}

TEST_CASE("rows have windows that there are") {
  refused([](Batch& b) { b.first_window[0] = -1; }, "row 0 was given windows -1 to 2");
  refused([](Batch& b) { b.first_window[2] = 1; }, "row 1 was given windows 2 to 1");
  refused([](Batch& b) { b.first_window[3] = 7; }, "row 2 was given windows 4 to 7 of 6");
}

TEST_CASE("a batch whose lists are not of its shape is not padded") {
  CHECK(padded(good, 4).length == 16);
  CHECK(padded(good, 4).tokens.size() == 48);
  const auto not_padded = [](auto change) {
    Batch bad = good;
    change(bad);
    CHECK_THROWS_WITH(padded(bad, 4), Catch::Matchers::Contains("a batch of 3 x 13 tokens came with"));
  };
  not_padded([](Batch& b) { b.tokens.pop_back(); });
  not_padded([](Batch& b) { b.positions.clear(); });
  not_padded([](Batch& b) { b.targets.resize(13); });
  not_padded([](Batch& b) { b.first_window.pop_back(); });
  not_padded([](Batch& b) { b.tasks.clear(); });
}
