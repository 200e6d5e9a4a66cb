// Watch: what a rank says of itself, and what another thread says of its device.
// SPDX-License-Identifier: Apache-2.0
#include "golem/comm/watch.hpp"

#include "catch.hpp"

using namespace golem;
using State = Doing::State;

TEST_CASE("a transfer that the device waits for is noted while the rank says nothing of its own") {
  const Transfer sum{.kind = Transfer::Kind::all_reduce, .count = 3, .type = DType::f32};
  Watch watch;
  watch.note(7, "forward");
  watch.begin_on_device(sum, "data", -1);
  CHECK(watch.now().state == State::waiting);
  CHECK(watch.now().bytes == 12);
  CHECK(watch.now().axis.view() == "data");
  CHECK(watch.now().activity.view() == "forward");
  const double since = watch.now().since;
  watch.begin_on_device(sum, "data", -1);  // seen again
  CHECK(watch.now().since == since);
  watch.end_on_device();
  CHECK(watch.now().state == State::working);

  watch.begin_on_device(sum, "data", -1);
  watch.note(7, "backward");  // it goes on
  CHECK(watch.now().state == State::working);
  watch.end_on_device();
  CHECK(watch.now().activity.view() == "backward");

  watch.begin({.kind = Transfer::Kind::barrier}, "world", -1);  // what the rank itself waits for stays
  watch.begin_on_device(sum, "data", -1);
  watch.end_on_device();
  CHECK(watch.now().state == State::waiting);
  CHECK(watch.now().axis.view() == "world");
  watch.end();
  CHECK(watch.now().state == State::working);
  watch.finish();
  watch.begin_on_device(sum, "data", -1);
  CHECK(watch.now().state == State::finished);
}
