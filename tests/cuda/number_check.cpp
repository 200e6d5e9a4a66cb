// TrainingConfig::check_numbers on the CUDA engine: the same cases as on the CPU's.
// SPDX-License-Identifier: Apache-2.0
#include "ops/engine.hpp"
#include "train/number_check.hpp"

TEST_CASE("on the GPU, the first number that is none is told with its tensor, block, step and pass") {
  golem::cuda::Device device;
  number_check::find_all(device);
}

TEST_CASE("on the GPU, an overflow under a loss scale is the scaler's, until it can fall no further") {
  golem::cuda::Device device;
  number_check::leave_overflows_to_the_scaler(device);
}
