// What the ranks of a training run compare before they begin, what they do, and what they count.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "golem/comm/world.hpp"
#include "golem/config/training.hpp"
#include "golem/data/blank_recipe.hpp"
#include "golem/train/trainer_core.hpp"
#include "golem/version.hpp"
#include "pretrain_options.hpp"

namespace examples {

/// What the ranks of a run do.
struct PretrainJob {
  golem::TrainingConfig training;
  golem::BlankRecipe recipe = {};
  void (*run)(const PretrainOptions&, const PretrainJob&, golem::World&) = nullptr;
};

// All that the ranks must have in common, but for paths, which may differ from machine to machine.
inline std::string describe_run(const PretrainOptions& o) {
  const auto given = [](const char* name, const auto& value) { return value ? golem::sentence(name, *value) : std::string(); };
  const golem::Layout& layout = o.layout;
  return golem::sentence("tp ", layout.tp, ", pp ", layout.pp, ", dp ", layout.dp, ", sequence parallel ", layout.sequence_parallel ? "on, " : "off, ", o.schedule, " of ", o.chunks, " chunks, zero ", o.zero,
                         ", recompute ", o.recompute, ", ", o.precision, ", ", o.steps, " steps of ", o.batch, " rows in micro-batches of ", o.micro_batch, ", rate ", o.peak, " to ", o.min, " after ", o.warmup,
                         ", beta2 ", o.beta2, ", weight decay ", o.weight_decay, ", clip ", o.clip, ", shrink ", o.shrink, ", sentinel ", o.sentinel, ", save every ", o.save_every, ", keep ", o.keep, " and every ",
                         o.keep_every, ", validate every ", o.validate_every, ", check every ", o.check_every, ", head tokens ", o.head_tokens, o.whole_words ? ", whole words" : "",
                         given(", spans of ", o.span_mean), given(", mask ratio ", o.mask_ratio), given(", generation part ", o.generation), ", order ", o.order,
                         o.instructions.empty() ? "" : ", instructions", o.former_instructions.empty() ? "" : ", former instructions", ", ", o.instruction_part, " of rows from step ", o.instruction_from, " over ", o.instruction_ramp,
                         o.held_out.empty() ? "" : ", held-out text", o.resume.empty() ? "" : ", resumed",
                         given(", new peak ", o.new_peak), given(", new min ", o.new_min), given(", new shrink ", o.new_shrink), given(", new beta2 ", o.new_beta2), given(", new weight decay ", o.new_weight_decay), given(", new clip ", o.new_clip), given(", new ramp ", o.new_shrink_ramp), given(", reshuffle ", o.reshuffle),
                         ", rewarm ", o.rewarm, ", skip ", o.skip_rows);
}

// Ends the run where ranks were started differently.
inline void agree_on_options(const PretrainOptions& options, golem::World& world) {
  world.agree("the version", golem::sentence(golem::version.major, '.', golem::version.minor, '.', golem::version.patch));
  world.agree("the model", options.model);
  world.agree("the seed", golem::sentence(options.seed));
  world.agree("the options", describe_run(options));
}

// Throws Error where options contradict each other, before anything is made of the text.
inline void check_options(const PretrainOptions& options) {
  golem::require(row_order(options.order) == golem::RowOrder::shuffled || !options.whole_words, "--order original makes blanks of any tokens, as the original did: leave --whole-words out");
  golem::require(options.former_instructions.empty() || (options.order == "original" && !options.instructions.empty()),
                 "--former-instructions goes with --order original and the --instructions that replace it: give both, or leave it out");
  golem::require(!options.corpus.empty() || !options.resume.empty(), "give --corpus with a folder of text, or --resume");
}

// Calls, bytes, and seconds exposed and overlapped along each axis, of this rank.
inline nlohmann::ordered_json traffic(golem::World& world) {
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  for (const golem::AxisCount& axis : world.counts()) {
    const golem::TransferCount total = axis.total();
    out[axis.axis] = {{"calls", total.calls}, {"bytes", total.bytes}, {"seconds", total.seconds}, {"overlapped", total.overlapped}};
  }
  return out;
}

}  // namespace examples
