// The half that the host's compiler compiles: it trains and generates, and has seen no kernel.
// SPDX-License-Identifier: Apache-2.0
#include "model.hpp"

#include <cstdio>
#include <vector>

extern template class golem::TrainerCore<split_glm, golem::fp32, 1, golem::cuda::Device>;
extern template class golem::EngineCore<split_glm, golem::fp32, 1, golem::cuda::Device>;

int main() try {
  golem::cuda::Device device;
  Trainer trainer(device, {.learning_rate = {.peak = 5e-3}, .batch = {.full = 1}, .micro_batch = 1});
  golem::Batch batch{.rows = 1, .length = 12, .first_window = {0, 1}, .tasks = {golem::Task::generation}};
  batch.windows.push_back({0, 12, 4});
  for (int t = 0; t < 12; ++t) batch.tokens.push_back(10 + t % 3), batch.positions.push_back(t), batch.targets.push_back(t < 4 ? -1 : 10 + (t + 1) % 3);
  const auto read = [&](int) -> const golem::Batch& { return batch; };
  const double first = trainer.step(read).loss;
  double last = first;
  for (int step = 0; step < 4; ++step) last = trainer.step(read).loss;

  Engine engine(device, {.capacity = 16});
  const std::vector<std::int32_t> tokens{10, 11, 12}, positions{0, 1, 2};
  const golem::SequenceStep step{.tokens = tokens, .positions = positions};
  const auto logits = engine.forward({&step, 1});
  std::printf("loss %.3f, then %.3f; %lld logits\n", first, last, static_cast<long long>(logits.size()));
  return last < first && logits.size() == split_glm::config.vocab ? 0 : 1;
} catch (const golem::Error& error) {
  std::printf("%s\n", error.what());
  return 2;
}
