// The options of plan, and the run on paper that they describe.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "golem/config/presets.hpp"
#include "golem/config/simulate.hpp"
#include "golem/core/error.hpp"

namespace examples {

struct PlanOptions {
  std::string model = "glm_130b", precision = "fp16", gradients = "fp32", recompute = "block_split", schedule = "1f1b", hardware = "A100-40G";
  golem::Layout layout{.tp = 4, .pp = 8, .dp = 24};
  std::int64_t batch = 0;
  int micro_batch = 1, chunks = 1, zero = 1, sequences = 1, capacity = 0;
  golem::Efficiency efficiency;
  golem::Stragglers stragglers;
  double fit = 0;
  bool wait_to_reduce = false;
  std::string timeline, trace, memory, inference_memory;
};

/// Calls use.template operator()<Model>() for the model of that name; another one is one more line.
template <class Use>
auto with_preset(const std::string& name, Use use) {
  if (name == "glm_130b") return use.template operator()<golem::glm_130b>();
  if (name == "glm_10b") return use.template operator()<golem::glm_10b>();
  if (name == "glm_1b") return use.template operator()<golem::glm_1b>();
  if (name == "glm_base") return use.template operator()<golem::glm_base>();
  if (name == "glm_small") return use.template operator()<golem::glm_small>();
  if (name == "glm_tiny") return use.template operator()<golem::glm_tiny>();
  golem::fail("there is no model '", name,
              "' in this program: name one of glm_130b, glm_10b, glm_1b, glm_base, glm_small, glm_tiny, or add a line to with_preset() in examples/plan_options.hpp");
}

inline golem::DType type_named(const char* option, const std::string& name) {
  for (const auto type : {golem::DType::f32, golem::DType::f16, golem::DType::bf16})
    if (name == (type == golem::DType::f32 ? "fp32" : type == golem::DType::f16 ? "fp16" : "bf16")) return type;
  golem::fail(option, " takes fp32, fp16 or bf16, not '", name, "'");
}

/// Throws Error where there is more to lay out than the ranks and micro-batches that memory holds a schedule of.
inline void require_size(const golem::PlannedRun& run) {
  constexpr std::int64_t most_ranks = 1 << 20, most_micro_batches = 1 << 14;
  const golem::Layout& l = run.layout;
  const double ranks = static_cast<double>(l.tp) * l.pp * l.dp, batches = static_cast<double>(run.training.batch.full) / (static_cast<double>(run.training.micro_batch) * l.dp);
  golem::require(ranks <= most_ranks, "tp ", l.tp, ", pp ", l.pp, " and dp ", l.dp, " make more ranks than plan knows, ", most_ranks, ": make one of them smaller");
  golem::require(batches <= most_micro_batches, "a step of ", run.training.batch.full, " rows is ", batches, " micro-batches on each data rank, and plan lays out ", most_micro_batches,
                 ": choose a smaller --batch, or a larger --micro-batch or --dp");
}

inline golem::PlannedRun planned_run(const PlanOptions& o) {
  golem::PlannedRun run{.model = with_preset(o.model, []<class M> { return M::config; }),
                        .types = {type_named("--precision", o.precision), golem::DType::f32, type_named("--gradients", o.gradients)},
                        .layout = o.layout,
                        .training = golem::glm_130b_training,
                        .hardware = golem::hardware_named(o.hardware),
                        .efficiency = o.efficiency,
                        .stragglers = {},
                        .overlapped_reduction = !o.wait_to_reduce};
  golem::TrainingConfig& t = run.training;
  t.micro_batch = o.micro_batch, t.recompute = golem::recompute_named(o.recompute), t.schedule = golem::schedule_named(o.schedule), t.chunks = o.chunks, t.zero = o.zero;
  if (o.batch > 0) t.batch.full = o.batch;
  require_size(run);
  if (o.fit > 0) run = golem::fitted(run, o.fit);
  run.stragglers = o.stragglers;
  return run;
}

/// A number from `least` to `most`; CLI::Range takes NaN for one.
inline CLI::Validator between(double least, double most) {
  return {[least, most](std::string& text) {
            double value = 0;
            const bool is_within = CLI::detail::lexical_cast(text, value) && value >= least && value <= most;
            return is_within ? std::string() : golem::sentence(text, " is not a number from ", least, " to ", most);
          },
          golem::sentence("FLOAT in [", least, " - ", most, "]")};
}

inline void add_products_option(CLI::App& app, double& products) {
  app.add_option("--products", products, "part of the machine's peak that products reach")->capture_default_str()->check(between(0.001, 1));
}

inline void add_options(CLI::App& app, PlanOptions& o) {
  app.add_option("model", o.model, "glm_130b, glm_10b, glm_1b, glm_base, glm_small or glm_tiny")->capture_default_str();
  app.add_option("--hardware", o.hardware, "A100-40G, A100-80G, H100, H200, V100-32G, RTX 3090 or RTX 2080 Ti")->capture_default_str();
  app.add_option("--tp", o.layout.tp, "tensor-parallel ranks")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--pp", o.layout.pp, "pipeline stages")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--dp", o.layout.dp, "data-parallel ranks")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_flag("--sequence-parallel", o.layout.sequence_parallel, "cut norms, residuals and dropout over the tokens");
  app.add_option("--schedule", o.schedule, "gpipe, 1f1b, interleaved or zero_bubble")->capture_default_str();
  app.add_option("--chunks", o.chunks, "chunks of layers on each stage, for interleaved")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--batch", o.batch, "rows in a step (4224)")->check(CLI::PositiveNumber);
  app.add_option("--micro-batch", o.micro_batch, "rows computed at once")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--recompute", o.recompute, "none, attention, block or block_split")->capture_default_str();
  app.add_option("--zero", o.zero, "1: ZeRO-1; 0: none")->capture_default_str()->check(CLI::Range(0, 1));
  app.add_option("--precision", o.precision, "of forward and backward: fp16, bf16 or fp32")->capture_default_str();
  app.add_option("--gradients", o.gradients, "what gradients are summed in: fp32, or fp16 as the original")->capture_default_str();
  add_products_option(app, o.efficiency.products);
  app.add_option("--fit", o.fit, "seconds of a measured step: sets --products so that this plan takes them")->check(between(1e-6, 1e9));
  app.add_flag("--wait-to-reduce", o.wait_to_reduce, "gradients are reduced after the backward passes, as in the original");
  app.add_option("--slow-ranks", o.stragglers.slow_ranks, "part of the ranks that is slow")->capture_default_str()->check(between(0, 1));
  app.add_option("--slowdown", o.stragglers.slowdown, "by how much, as a part of their time")->capture_default_str()->check(between(0, 1e6));
  app.add_option("--jitter", o.stragglers.jitter, "mean of what each action takes longer, as a part of its time")->capture_default_str()->check(between(0, 1e6));
  app.add_option("--timeline", o.timeline, "SVG file for a timeline of the step");
  app.add_option("--trace", o.trace, "JSON file for chrome://tracing or Perfetto");
  app.add_option("--memory", o.memory, "SVG file for a chart of the memory");
  auto* engine = app.add_option_group("inference", "an engine on 1, 2, 4 or 8 of these devices");
  engine->add_option("--sequences", o.sequences, "generated at once")->capture_default_str()->check(CLI::PositiveNumber);
  engine->add_option("--capacity", o.capacity, "tokens of each, prompt included; 0: the model's context")->capture_default_str()->check(CLI::NonNegativeNumber);
  engine->add_option("--inference-memory", o.inference_memory, "SVG file for a chart of the memory");
}

}  // namespace examples
