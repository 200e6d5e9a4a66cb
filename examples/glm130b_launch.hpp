// The launch of GLM-130B's training (spec 4 and Appendix A; section 9 decides where sources differ), and the same for its small sibling.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "glm130b_models.hpp"
#include "golem/config/plan.hpp"
#include "golem/data/blank_recipe.hpp"
#include "golem/train/schedules.hpp"

namespace examples {

/// fp16 forward and backward, fp32 master weights and moments, gradients added up and reduced in fp16 (spec 4.2).
using LaunchPrecision = golem::low_gradients<golem::fp16_mixed>;

struct Launch {
  golem::Layout layout;
  golem::TrainingConfig training;
  golem::BlankRecipe recipe;
  double instruction_part = 0;       // of the rows, where there are instructions (spec 2.6)
  std::int64_t rows = 0;           // of all steps together
  std::int64_t save_every = 0;     // steps
  std::int64_t validate_every = 0;  // steps
  std::int64_t validation_rows = 0;
};

/// Appendix A, with the training's and the objective's numbers where the library has them: golem::glm_130b_training spells out rate,
/// batch ramp, AdamW, clipping, shrink, loss scale and recomputation; golem::glm_130b_recipe the 30/70 blanks.
inline constexpr Launch glm_130b_launch{.layout = {.tp = 4, .pp = 8, .dp = 24},  // 768 A100-40G
                                        .training = golem::glm_130b_training,
                                        .recipe = golem::glm_130b_recipe,
                                        .instruction_part = 0.05,
                                        .rows = 219'726'562,  // 450e9 tokens of 2048 a row
                                        .save_every = 250,
                                        .validate_every = 1000,
                                        .validation_rows = 3 * 4224};

// What of Appendix A is the model's: sizes, DeepNorm, rotary positions, GeGLU, initialisation, dropout.
static_assert(golem::glm_130b::config.layers == 70 && golem::glm_130b::config.hidden == 12288 && golem::glm_130b::config.heads == 96 && golem::glm_130b::config.ffn == 32768 &&
              golem::glm_130b::config.context == 2048 && golem::glm_130b::config.norm == golem::Norm::deep && golem::glm_130b::config.ffn_kind == golem::Ffn::geglu &&
              golem::glm_130b::config.embedding_std == 0.0052 && golem::glm_130b::config.norm_eps == 1e-5 && golem::glm_130b::config.dropout == 0.1);
static_assert(glm_130b_launch.layout.ranks() == 768);
static_assert(golem::micro_batches_of(glm_130b_launch.training, glm_130b_launch.layout) == 176);
static_assert(golem::fits<golem::glm_130b, LaunchPrecision, glm_130b_launch.layout>(golem::a100_40gb, glm_130b_launch.training));

/// The same launch for the sibling: eight ranks, a sixteenth of the row (short windows stay long enough for spans), a few hundred rows
/// with warm-up, ramp and decay over the same parts of them, and the rate of a small model.
inline constexpr Launch tiny_launch = [] {
  Launch launch = glm_130b_launch;
  launch.layout = {.tp = 2, .pp = 2, .dp = 2};
  launch.rows = 320;
  launch.training.learning_rate = {.peak = 2e-3, .min = 2e-4, .warmup_samples = 4, .decay_samples = 288};
  launch.training.batch = {.full = 16, .start = 4, .increment = 2, .ramp_samples = 8};
  launch.recipe.context = 128, launch.recipe.row = 125, launch.recipe.piece = 31, launch.recipe.shortest_window = 16;
  launch.save_every = 16, launch.validate_every = 16, launch.validation_rows = 3 * 16;
  return launch;
}();

/// What a model's program launches; tp is a template argument of the trainer.
template <class M>
inline constexpr Launch launch_of = glm_130b_launch;
template <>
inline constexpr Launch launch_of<glm_130b_tiny> = tiny_launch;

/// Steps until all rows are read.
inline std::int64_t steps_of(const Launch& launch) {
  std::int64_t steps = 0;
  for (std::int64_t rows = 0; rows < launch.rows; ++steps) rows += golem::batch_rows(launch.training.batch, rows);
  return steps;
}

}  // namespace examples
