// What plan prints of a training run: bytes a rank by stage and item, and a step's seconds, utilisation and traffic.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "golem/config/simulate.hpp"
#include "golem/report/memory_chart.hpp"

namespace examples {

inline double gib(std::int64_t bytes) { return static_cast<double>(bytes) / golem::gibibyte; }

inline std::string words(const golem::PlannedRun& run) {
  const golem::Layout& l = run.layout;
  const golem::TrainingConfig& t = run.training;
  std::string out =
      golem::sentence("tp ", l.tp, ", pp ", l.pp, ", dp ", l.dp, l.sequence_parallel ? ", sequence parallel" : "", ", ", golem::name_of(t.schedule));
  if (t.chunks > 1) out += golem::sentence(" of ", t.chunks, " chunks");
  return out + golem::sentence(", micro-batches of ", t.micro_batch, ", recompute ", golem::name_of(t.recompute));
}

inline nlohmann::json json_of(const golem::PlannedRun& run) {
  const golem::TrainingConfig& t = run.training;
  return {{"tp", run.layout.tp},
          {"pp", run.layout.pp},
          {"dp", run.layout.dp},
          {"sequence_parallel", run.layout.sequence_parallel},
          {"schedule", golem::name_of(t.schedule)},
          {"chunks", t.chunks},
          {"micro_batch", t.micro_batch},
          {"recompute", golem::name_of(t.recompute)},
          {"zero", t.zero}};
}

// Bytes a rank, stage by stage.
inline nlohmann::json print_memory(const golem::PlannedRun& run, const std::string& path, const std::string& title) {
  golem::MemoryChart chart{.title = title, .subtitle = words(run), .bars = {}, .limit = run.hardware.usable()};
  nlohmann::json stages = nlohmann::json::array();
  std::printf("\nGiB a rank    weights   master    grads  moments  activations    head   comm  space    total   in flight\n");
  for (int stage = 0; stage < run.layout.pp; ++stage) {
    const golem::TrainingMemory m = golem::plan_training(run.model, run.types, run.layout, run.training, stage);
    const int micro_batches = golem::micro_batches_of(run.training, run.layout);
    std::printf("stage %-6d %9.2f %8.2f %8.2f %8.2f %12.2f %7.2f %6.2f %6.2f %8.2f %11d\n", stage, gib(m.weights), gib(m.master_weights), gib(m.gradients),
                gib(m.moments), gib(m.activations), gib(m.head), gib(m.communication), gib(m.workspace), gib(m.total()),
                golem::activations_in_flight(run.training.schedule, run.layout.pp, run.training.chunks, micro_batches, stage));
    chart.bars.push_back({golem::sentence("stage ", stage), golem::items_of(m)});
    nlohmann::json items{{"total", m.total()}};
    for (const golem::MemoryItem& item : golem::items_of(m)) items[item.name] = item.bytes;
    stages.push_back(items);
  }
  const golem::FullestStage fullest = golem::fullest_stage(run.model, run.types, run.layout, run.training);
  const std::int64_t total = fullest.memory.total(), usable = run.hardware.usable();
  const bool close = total > usable * 9 / 10 && total <= usable * 11 / 10;
  std::printf("%s%s: stage %d takes %.2f GiB of %.2f usable (%s has %.2f)\n", total <= usable ? "it fits" : "it does not fit",
              close ? ", and is borderline" : "", fullest.stage, gib(total), gib(usable), run.hardware.name, gib(run.hardware.memory));
  if (!path.empty()) golem::write_memory_chart(path, chart);
  return {{"stages", stages}, {"fits", total <= usable}, {"borderline", close}, {"usable", usable}};
}

inline nlohmann::json print_step(const golem::PlannedRun& run, const golem::StepOnPaper& step) {
  const golem::StepTraffic sent = golem::step_traffic(run.model, run.types, run.layout, run.training, run.layout.pp / 2);
  const double formula = golem::bubble(run.training.schedule, run.layout.pp, run.training.chunks, step.micro_batches);
  std::printf("\nstep                %9.2f s   %.0f tokens a second, %.1f TFLOP/s a rank\n", step.seconds, step.tokens_per_second,
              step.flops / step.seconds / run.layout.ranks() / 1e12);
  std::printf("flops a step        %9.3g     HFU %.1f%%, MFU %.1f%% (products reach %.1f%% of the peak)\n", step.flops, 100 * step.hfu,
              100 * step.mfu, 100 * run.efficiency.products);
  std::printf("bubble              %9.1f %%   by the formula %.1f%%; the rest is that stages are unequal\n", 100 * step.bubble, 100 * formula);
  std::printf("exposed: tensor     %9.2f s   %.1f GB sent by a rank\n", step.exposed_tensor, sent.tensor / 1e9);
  std::printf("         pipeline   %9.2f s   %.1f GB\n", step.exposed_pipeline, sent.pipeline / 1e9);
  std::printf("         data       %9.2f s   %.1f GB\n", step.exposed_data, sent.data / 1e9);
  std::printf("optimizer           %9.3f s\n", step.optimizer);
  if (run.stragglers.any()) std::printf("stragglers          %9.2f s\n", step.stragglers);
  return {{"seconds", step.seconds},
          {"tokens_per_second", step.tokens_per_second},
          {"flops", step.flops},
          {"hfu", step.hfu},
          {"mfu", step.mfu},
          {"bubble", step.bubble},
          {"bubble_formula", formula},
          {"exposed_tensor", step.exposed_tensor},
          {"exposed_pipeline", step.exposed_pipeline},
          {"exposed_data", step.exposed_data},
          {"optimizer", step.optimizer},
          {"stragglers", step.stragglers},
          {"sent_tensor", sent.tensor},
          {"sent_pipeline", sent.pipeline},
          {"sent_data", sent.data},
          {"products", run.efficiency.products}};
}

}  // namespace examples
