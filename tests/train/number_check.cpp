// TrainingConfig::check_numbers on the CPU engine, and what require_finite lets through.
// SPDX-License-Identifier: Apache-2.0
#include "golem/train/number_check.hpp"

#include "golem/golem.hpp"
#include "train/number_check.hpp"

TEST_CASE("the first number that is none is told with its tensor, block, step and pass") {
  golem::cpu::Device device({.threads = 1});
  number_check::find_all(device);
}

TEST_CASE("an overflow under a loss scale is the scaler's, until it can fall no further") {
  golem::cpu::Device device({.threads = 1});
  number_check::leave_overflows_to_the_scaler(device);
}

TEST_CASE("finite numbers are let through, however large, and others are found where they are") {
  golem::cpu::Device device({.threads = 2});
  golem::Buffer<float, golem::cpu::Device> x(device, 1001, "test");
  x.data()[7] = -3e38f;  // its square is infinite
  golem::require_finite(device, x.view(), "", "x");
  x.data()[1000] = std::numeric_limits<float>::infinity();
  CHECK_THROWS_WITH(golem::require_finite(device, x.view(), ": mend it", "x of ", 3), Catch::Matchers::Equals("x of 3 has an infinity at element 1000 of 1001: mend it"));
  golem::require_finite(device, golem::View<float, 1>{x.data(), 0}, "", "nothing");
}
