// The loss scale: hysteresis, halving, doubling after a window (spec 4.2).
// SPDX-License-Identifier: Apache-2.0
#include "golem/train/loss_scaler.hpp"

#include "catch.hpp"

TEST_CASE("an overflow first uses up the hysteresis, then every one halves the scale, down to its floor") {
  golem::LossScaler scaler({.initial = 8, .min = 1, .window = 200, .hysteresis = 2});
  scaler.update(true);
  CHECK(scaler.scale() == 8);
  for (const double expected : {4.0, 2.0, 1.0, 1.0}) {
    CHECK(scaler.can_fall() == (scaler.scale() > 1));
    scaler.update(true);
    CHECK(scaler.scale() == expected);
  }
}

TEST_CASE("a scale without a window is fixed") {
  golem::LossScaler scaler({.initial = 1024, .window = 0, .hysteresis = 1});
  CHECK_FALSE(scaler.can_fall());
  for (const bool overflow : {true, false, true, true, false}) {
    scaler.update(overflow);
    CHECK(scaler.scale() == 1024);
  }
}

TEST_CASE("the scale doubles and the hysteresis is restored whenever a window has passed since the last overflow") {
  golem::LossScaler scaler({.initial = 8, .min = 1, .window = 3, .hysteresis = 2});
  for (const double expected : {8.0, 8.0, 16.0, 16.0, 16.0, 32.0}) {
    scaler.update(false);
    CHECK(scaler.scale() == expected);
  }
  scaler.update(true), scaler.update(true);
  CHECK(scaler.scale() == 16);
  for (int i = 0; i < 3; ++i) scaler.update(false);
  CHECK(scaler.scale() == 32);
  scaler.update(true);
  CHECK(scaler.scale() == 32);
}
