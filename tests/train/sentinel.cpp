// The sentinel raises an alarm for spikes, and only for spikes.
// SPDX-License-Identifier: Apache-2.0
#include "golem/train/sentinel.hpp"

#include <limits>

#include "catch.hpp"
#include "train/memory_state.hpp"

using golem::Sentinel;

TEST_CASE("a spike of the gradient norm is an alarm, again and again, and does not become normal") {
  Sentinel sentinel({.factor = 8, .history = 16});
  for (int i = 0; i < 20; ++i) CHECK_FALSE(sentinel.judge(1.0 + 0.1 * (i % 3), 1, false).alarm);
  for (int i = 0; i < 40; ++i) {
    const auto verdict = sentinel.judge(20, 1, false);
    REQUIRE(verdict.alarm);
    REQUIRE_THAT(verdict.why, Catch::Matchers::Contains("gradient norm 20"));
  }
  CHECK_FALSE(sentinel.judge(1.1, 1, false).alarm);
}

TEST_CASE("the first steps, whose norms are large, raise none") {
  Sentinel sentinel({.factor = 8, .history = 16});
  CHECK_FALSE(sentinel.judge(1, 1, false).alarm);
  CHECK_FALSE(sentinel.judge(1000, 1, false).alarm);
}

TEST_CASE("a gradient that is not finite is an alarm, but for fp16, whose loss scaler answers it") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  Sentinel sentinel(golem::SentinelConfig{});
  CHECK(sentinel.judge(nan, 1, false).alarm);
  CHECK_FALSE(sentinel.judge(nan, 65536, true).alarm);
  CHECK_FALSE(sentinel.judge(nan, 128, true).alarm);
  CHECK_THAT(sentinel.judge(nan, 64, true).why, Catch::Matchers::Contains("the loss scale fell to 64"));
  CHECK_FALSE(sentinel.judge(1, 64, true).alarm);  // what it has fallen to is enough
}

TEST_CASE("without a history norms are not compared") {
  Sentinel sentinel({.history = 0});
  for (const double norm : {1.0, 1.0, 1e6}) CHECK_FALSE(sentinel.judge(norm, 1, false).alarm);
  CHECK(sentinel.judge(std::numeric_limits<double>::infinity(), 1, false).alarm);
}

TEST_CASE("a history is saved, and taken over by one of another length as far as it fits") {
  Sentinel sentinel({.factor = 8, .history = 8});
  for (int i = 1; i <= 16; ++i) sentinel.judge(i < 13 ? 1 : 5, 1, false);  // the last of eight: 1 1 1 1 5 5 5 5
  tests::MemoryState saved, again;
  saved.save(sentinel);
  Sentinel same({.factor = 8, .history = 8});
  saved.load(same);
  again.save(same);
  CHECK(again == saved);
  const auto alarm = [&](int history, double norm) {
    Sentinel other({.factor = 8, .history = history});
    saved.load(other);
    return other.judge(norm, 1, false).alarm;
  };
  CHECK_FALSE(alarm(4, 39));  // the median of 5 5 5 5
  CHECK(alarm(4, 41));
  CHECK(alarm(16, 41));  // half full, as it was
  CHECK_FALSE(alarm(17, 1e6));
  CHECK_FALSE(alarm(0, 1e6));
  saved.integers["sentinel.seen"] = -1;
  CHECK_THROWS_WITH(saved.load(same), Catch::Matchers::Contains("has seen -1 gradient norms, and keeps 8: it is damaged"));
}
