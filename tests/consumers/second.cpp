// The outside program's second file: it includes the device too, so that what is defined twice fails to link (for all of golem, golem's own tests do).
// SPDX-License-Identifier: Apache-2.0
#include <golem/core/tensor.hpp>
#include <golem/cpu/device.hpp>

std::int64_t sum_elsewhere(golem::cpu::Device& device, golem::View<const float, 1> x);

std::int64_t sum_elsewhere(golem::cpu::Device& device, golem::View<const float, 1> x) {
  std::int64_t* partial = device.shared_scratch<std::int64_t>(x.size());
  device.parallel(x.size(), [&](std::int64_t i) { partial[i] = static_cast<std::int64_t>(x(i)); });
  std::int64_t sum = 0;
  for (std::int64_t i = 0; i < x.size(); ++i) sum += partial[i];
  return sum;
}
