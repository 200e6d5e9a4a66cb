// The options of pretrain: what they are called, what they mean, what they are by default.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "device.hpp"
#include "golem/config/layout.hpp"
#include "golem/config/training.hpp"
#include "golem/core/error.hpp"
#include "golem/data/blank_recipe.hpp"
#include "golem/data/sample_order.hpp"
#include "golem/train/schedules.hpp"
#include "models.hpp"

namespace examples {

struct PretrainOptions {
  std::string job = "pretrain";  // the program's name
  std::string corpus, held_out, out = "run", model{default_model()}, precision = "auto", tokenizer, resume;
  std::int64_t steps = 4000, batch = 4, warmup = 200, save_every = 0, validate_every = 250, validation_rows = 128, keep = 2, keep_every = 0;
  int micro_batch = 4, threads = 0;
  bool whole_words = false;
  std::optional<double> span_mean, mask_ratio, generation;
  double peak = 1.5e-3, min = 1e-5, beta2 = 0.999, weight_decay = 0.1, clip = 1.0, shrink = 1.0;
  std::uint64_t seed = 1234;
  std::string sentinel = "report", recompute = "none";
  // What rows are made of.
  std::string order = "golem", instructions, former_instructions;
  double instruction_part = 0.05;
  std::int64_t instruction_from = 0, instruction_ramp = 0;
  // Many ranks.
  golem::Layout layout;
  std::string schedule = "1f1b";
  int chunks = 1, zero = 0, check_every = 0;
  std::int64_t head_tokens = examples::head_tokens;
  bool check_numbers = false;
  double deadline = 600;
  std::set<std::string> said;  // options of the command line whose value a checkpoint may have another of
  // Levers of a resumed run; unset ones keep what the checkpoint says.
  std::optional<double> new_peak, new_min, new_shrink, new_beta2, new_weight_decay, new_clip;
  std::optional<std::int64_t> new_shrink_ramp;
  std::optional<std::uint64_t> reshuffle;
  std::int64_t rewarm = 0, skip_rows = 0;
};

inline golem::SentinelConfig::Action sentinel_action(const std::string& name) {
  using Action = golem::SentinelConfig::Action;
  if (name == "report") return Action::report;
  if (name == "skip") return Action::skip;
  if (name == "roll-back") return Action::roll_back;
  golem::fail("--sentinel takes report, skip or roll-back, not '", name, "'");
}

inline golem::RowOrder row_order(const std::string& name) {
  if (name == "golem") return golem::RowOrder::shuffled;
  if (name == "original") return golem::RowOrder::glm_130b;
  golem::fail("--order takes golem or original, not '", name, "'");
}

// The original's own recipe where the model has its context; else one that fits.
inline golem::BlankRecipe recipe_of(const PretrainOptions& o, int context) {
  const bool original_order = row_order(o.order) == golem::RowOrder::glm_130b, is_original = original_order && context == golem::glm_130b_recipe.context;
  const golem::BlankRecipe& original = golem::glm_130b_recipe;
  golem::require(!original_order || (!o.span_mean && !o.mask_ratio && !o.generation), "--span-mean, --mask-ratio and --generation-part do not go with --order original, whose rows are GLM-130B's: leave them out");
  if (is_original) return original;
  golem::BlankRecipe recipe = golem::recipe(context, o.span_mean.value_or(original.span_mean), o.mask_ratio.value_or(original.mask_ratio));
  recipe.generation = o.generation.value_or(original.generation);
  return recipe;
}

inline golem::InstructionMix instruction_mix(const PretrainOptions& o, const golem::BatchSize& batch) {
  const std::int64_t from = golem::rows_of_steps(batch, o.instruction_from);
  return {.part = o.instruction_part, .from = from, .ramp = golem::rows_of_steps(batch, o.instruction_from + o.instruction_ramp) - from};
}

inline golem::TrainingConfig training_config(const PretrainOptions& o) {
  return {.seed = o.seed,
          .learning_rate = {.peak = o.peak, .min = o.min, .warmup_samples = o.warmup * o.batch, .decay_samples = o.steps * o.batch},
          .batch = {.full = o.batch},
          .micro_batch = o.micro_batch,
          .beta2 = o.beta2,
          .weight_decay = o.weight_decay,
          .clip = o.clip,
          .shrink = {.alpha = o.shrink},
          .sentinel = {.action = sentinel_action(o.sentinel)},
          .recompute = golem::recompute_named(o.recompute),
          .schedule = golem::schedule_named(o.schedule),
          .chunks = o.chunks,
          .zero = o.zero,
          .head_tokens = o.head_tokens,
          .check_every = o.check_every,
          .check_numbers = o.check_numbers};
}

/// Of a run's files, and how it is watched.
inline void add_file_options(CLI::App& app, PretrainOptions& o) {
  app.add_option("--corpus", o.corpus, "folder of UTF-8 text files to learn from");
  app.add_option("--held-out", o.held_out, "folder of text that is only measured: bits per byte before and after");
  app.add_option("--out", o.out, "the run's folder: tokenizer, rows, checkpoints, metrics.jsonl, loss.svg")->capture_default_str();
  app.add_option("--tokenizer", o.tokenizer, "a SentencePiece model, instead of training one: one of golem's, or icetk's ice_text.model");
  add_threads_option(app, o.threads, "of each rank; 0: its share of the machine, or OMP_NUM_THREADS");
  app.add_option("--keep", o.keep, "checkpoints that stay; 0: all")->capture_default_str();
  app.add_option("--keep-every", o.keep_every, "checkpoints whose step is a multiple stay for good; 0: none")->capture_default_str();
  app.add_option("--sentinel", o.sentinel, "at a spike of the gradient: report, skip or roll-back")->capture_default_str();
  app.add_option("--resume", o.resume, "go on from a checkpoint's folder, or auto: the latest in --out");
  app.add_option("--deadline", o.deadline, "seconds that a rank may work at one thing, or all ranks wait, before the run counts as stalled; 0: for ever")->capture_default_str();
}

/// Of the samples.
inline void add_row_options(CLI::App& app, PretrainOptions& o) {
  auto* rows = app.add_option_group("rows", "what samples are made of");
  rows->add_option("--order", o.order, "golem: every row once an epoch, in a new order each; original: GLM-130B's draws, blanks and split of the corpus")->capture_default_str();
  rows->add_option("--instructions", o.instructions, "JSONL file of {\"text\": ..., \"target\": ...} lines that are mixed among the rows; a resumed run that had none begins with them");
  rows->add_option("--instruction-part", o.instruction_part, "of the rows")->capture_default_str();
  rows->add_option("--instruction-from", o.instruction_from, "step that they begin after")->capture_default_str()->check(CLI::NonNegativeNumber);
  rows->add_option("--instruction-ramp", o.instruction_ramp, "steps over which their part grows from 0")->capture_default_str()->check(CLI::NonNegativeNumber);
  rows->add_option("--former-instructions", o.former_instructions, "with --order original: the set that --instructions replaces along the ramp");
}

/// Of a run that goes on.
inline void add_lever_options(CLI::App& app, PretrainOptions& o) {
  auto* levers = app.add_option_group("levers", "changes to a resumed run, each written to its log");
  CLI::Option* const resume = app.get_option("--resume");
  levers->add_option("--new-peak-lr", o.new_peak, "highest learning rate from here on")->needs(resume);
  levers->add_option("--new-min-lr", o.new_min, "last learning rate from here on")->needs(resume);
  levers->add_option("--rewarm", o.rewarm, "steps over which the learning rate warms up again")->needs(resume)->check(CLI::NonNegativeNumber);
  levers->add_option("--new-shrink", o.new_shrink, "embedding-gradient shrink from here on")->needs(resume);
  levers->add_option("--new-beta2", o.new_beta2, "decay of the second moment from here on")->needs(resume);
  levers->add_option("--new-weight-decay", o.new_weight_decay, "of matrices from here on")->needs(resume);
  levers->add_option("--new-clip", o.new_clip, "largest gradient norm from here on; 0: it is not clipped")->needs(resume);
  levers->add_option("--new-shrink-ramp", o.new_shrink_ramp, "steps over which it rises to 1")->needs(resume);
  levers->add_option("--reshuffle", o.reshuffle, "another seed of the order of rows")->needs(resume);
  levers->add_option("--skip-rows", o.skip_rows, "rows of data that are passed over")->needs(resume)->check(CLI::NonNegativeNumber);
}

/// Notes whether the command line has an option.
inline void note_said(CLI::Option* option, PretrainOptions& o) {
  option->each([&o, name = option->get_name()](const std::string&) { o.said.insert(name); });
}

/// The options of pretrain.
inline void add_options(CLI::App& app, PretrainOptions& o) {
  add_file_options(app, o);
  app.add_option("--model", o.model, model_names())->capture_default_str();
  app.add_option("--precision", o.precision, "fp32, bf16 (with fp32 master weights), or auto: what this processor is faster in")->capture_default_str();
  app.add_option("--span-mean", o.span_mean, "lambda of the Poisson distribution of the lengths of blanks, in tokens; without it GLM-130B's 3");
  app.add_option("--mask-ratio", o.mask_ratio, "part of the tokens that is blanked in rows with [MASK]s; without it GLM-130B's 0.15");
  app.add_option("--generation-part", o.generation, "part of the rows that go on behind a [gMASK], where the others have [MASK]s; without it GLM-130B's 0.7")->check(CLI::Range(0.0, 1.0));
  app.add_flag("--whole-words", o.whole_words, "blanks are stretched to whole words; without it they are of any tokens, as GLM-130B's");
  note_said(app.add_option("--steps", o.steps, "optimizer steps in all; a resumed run keeps its own without it")->capture_default_str()->check(CLI::PositiveNumber), o);
  app.add_option("--batch", o.batch, "rows of a step")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--micro-batch", o.micro_batch, "rows computed at once")->capture_default_str()->check(CLI::PositiveNumber);
  note_said(app.add_option("--peak-lr", o.peak, "highest learning rate")->capture_default_str(), o);
  note_said(app.add_option("--min-lr", o.min, "learning rate at the end")->capture_default_str(), o);
  note_said(app.add_option("--warmup", o.warmup, "steps until the highest learning rate")->capture_default_str(), o);
  note_said(app.add_option("--beta2", o.beta2, "decay of the second moment; nearer to 1 for small batches")->capture_default_str(), o);
  note_said(app.add_option("--weight-decay", o.weight_decay, "of matrices")->capture_default_str(), o);
  note_said(app.add_option("--clip", o.clip, "largest gradient norm; 0: it is not clipped")->capture_default_str(), o);
  note_said(app.add_option("--shrink", o.shrink, "embedding-gradient shrink; GLM-130B: 0.1")->capture_default_str(), o);
  note_said(app.add_option("--seed", o.seed, "of weights and data order")->capture_default_str(), o);
  app.add_option("--save-every", o.save_every, "steps; 0: at the end")->capture_default_str();
  app.add_option("--validate-every", o.validate_every, "steps")->capture_default_str();
  app.add_option("--recompute", o.recompute, "what the backward pass computes again instead of keeping: none, attention, block, or block_split (block inputs cut over tensor ranks)")->capture_default_str();
  app.add_option("--head-tokens", o.head_tokens, "tokens whose logits are held at once; 0: as many as take 16 MiB")->check(CLI::NonNegativeNumber)->capture_default_str();
  app.add_flag("--check-numbers", o.check_numbers, "for debugging: the first NaN or infinity ends the run, and is told with its tensor, block and step");
  add_row_options(app, o);
  add_lever_options(app, o);
  auto* ranks = app.add_option_group("ranks", "tp x pp x dp ranks: threads of this process, or the processes that a launcher started (examples/launch.sh)");
  ranks->add_option("--tp", o.layout.tp, "tensor parallel: ranks that share each layer")->capture_default_str()->check(CLI::PositiveNumber);
  ranks->add_option("--pp", o.layout.pp, "pipeline parallel: stages that the layers are cut in")->capture_default_str()->check(CLI::PositiveNumber);
  ranks->add_option("--dp", o.layout.dp, "data parallel: copies that see different rows")->capture_default_str()->check(CLI::PositiveNumber);
  ranks->add_flag("--sequence-parallel", o.layout.sequence_parallel, "cut norms, dropout and residuals over the tokens too");
  ranks->add_option("--schedule", o.schedule, "of the pipeline: gpipe, 1f1b, interleaved or zero_bubble")->capture_default_str();
  ranks->add_option("--chunks", o.chunks, "runs of layers on each pipeline rank; 2 to 4 with interleaved")->capture_default_str();
  ranks->add_option("--zero", o.zero, "1: master weights and moments are cut among the data ranks (ZeRO-1)")->capture_default_str();
  ranks->add_option("--check-every", o.check_every, "steps between comparisons of what ranks hold alike; 0: never")->capture_default_str();
}

}  // namespace examples
