// A small outside program: what each way of consuming golem must compile, link and run.
// SPDX-License-Identifier: Apache-2.0
#include <golem/golem.hpp>

#include <cstdio>

struct my_glm {
  static constexpr auto config = golem::checked({.layers = 2, .hidden = 64, .heads = 4, .ffn = 176, .vocab = 512, .context = 64});
};
static_assert(golem::prove_model<my_glm>());

std::int64_t sum_elsewhere(golem::cpu::Device& device, golem::View<const float, 1> x);  // in second.cpp

int main() {
  golem::cpu::Device device;
  golem::Buffer<float, golem::cpu::Device> buffer(device, my_glm::config.hidden, "consumer");
  for (int i = 0; i < my_glm::config.hidden; ++i) buffer.data()[i] = 1;
  const bool right = sum_elsewhere(device, buffer.view()) == my_glm::config.hidden;
  const golem::Diagnosis d = golem::doctor();
  std::printf("golem %s %s; OpenMP %s; oneDNN %s\n", d.golem.c_str(), right ? "consumed" : "is wrong", d.openmp.c_str(), d.onednn_library.c_str());
  return right ? 0 : 1;
}
