// custom_model: a model of one's own in twenty lines: it learns one sentence by heart.
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <string>
#include <vector>

#include <golem/golem.hpp>

struct my_glm {  // its name is what errors, symbols and profiles show
  static constexpr auto config = golem::checked({.layers = 2, .hidden = 64, .heads = 4, .ffn = 176, .vocab = 128, .context = 64, .embedding_std = 0.02});
};

int main() {
  constexpr golem::SpecialTokens special{.mask = 1, .gmask = 2, .smask = 3, .sop = 4, .eop = 5, .eos = 6, .newline = 7, .pad = 0};
  const std::string text = "the quick brown fox jumps over the lazy dog, and runs on. ";  // a token is a letter
  const golem::BlankRecipe recipe = golem::recipe(my_glm::config.context);
  golem::CorpusBuilder builder("custom_model.bin", recipe.row, my_glm::config.vocab, "letters");
  for (int i = 0; i < 40; ++i) builder.add(std::vector<std::int32_t>(text.begin(), text.end()), special.eos);
  builder.finish();

  const golem::Corpus corpus("custom_model.bin");
  golem::Loader loader(corpus, recipe, special);
  golem::Trainer<my_glm> trainer({.learning_rate = {.peak = 5e-3, .warmup_samples = 80}, .batch = {.full = 8}, .micro_batch = 8});
  golem::StepReport report;
  for (int step = 0; step < 300; ++step) report = trainer.step([&](int rows) -> const golem::Batch& { return loader.next(rows); });
  std::printf("{\"job\":\"custom_model\",\"params\":%lld,\"loss\":%.4f}\n", static_cast<long long>(trainer.parameter_elements()), report.loss);
}
