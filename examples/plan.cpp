// plan: what training and running a model takes on a machine and a layout: parameters, bytes, flops, seconds, and what would be faster. Nothing is run.
// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "golem/report/timeline.hpp"
#include "golem/report/trace.hpp"
#include "plan_inference.hpp"
#include "plan_options.hpp"
#include "plan_other_runs.hpp"
#include "plan_training.hpp"

namespace {

using examples::PlanOptions;

void run(const PlanOptions& options) {
  const golem::PlannedRun run = examples::planned_run(options);
  const golem::StepOnPaper step = golem::simulate(run);
  const std::string title = golem::sentence(options.model, " on ", run.layout.ranks(), " ", run.hardware.name);
  std::printf("%s: %s\n", title.c_str(), examples::words(run).c_str());
  std::printf("%lld parameters; a step of %lld rows of %d tokens, %d micro-batches on each data rank\n",
              static_cast<long long>(golem::parameter_count(run.model)), static_cast<long long>(run.training.batch.full), run.model.context,
              step.micro_batches);

  nlohmann::json json{{"job", "plan"},
                      {"model", options.model},
                      {"hardware", run.hardware.name},
                      {"ranks", run.layout.ranks()},
                      {"rows", run.training.batch.full},
                      {"parameters", golem::parameter_count(run.model)},
                      {"layout", examples::json_of(run)}};
  json["memory"] = examples::print_memory(run, options.memory, title);
  json["step"] = examples::print_step(run, step);
  json["weak_scaling"] = examples::print_weak_scaling(run);
  json["better"] = examples::print_better(run, step);
  json["inference"] = examples::print_inference(options, run.hardware);
  if (!options.timeline.empty()) {
    golem::Timeline timeline = golem::timeline_of(step);
    timeline.title = title + ": " + examples::words(run);
    char text[160];
    std::snprintf(text, sizeof text, "%.1f s for %lld rows; a stage waits %.1f%% of the time; HFU %.1f%%, MFU %.1f%%", step.seconds,
                  static_cast<long long>(run.training.batch.full), 100 * step.bubble, 100 * step.hfu, 100 * step.mfu);
    timeline.subtitle = text;
    golem::write_timeline(options.timeline, timeline);
  }
  if (!options.trace.empty()) {
    golem::Trace trace;
    trace.name_process(0, title);
    trace.add(0, step.run);
    trace.write(options.trace);
  }
  std::printf("%s\n", json.dump().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  PlanOptions options;
  CLI::App app("Plans the training of a model on a cluster, and its engines on a few devices: bytes a rank, seconds, utilisation, and faster layouts. A line of JSON ends it.");
  examples::add_options(app, options);
  CLI11_PARSE(app, argc, argv);
  try {
    run(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "plan: %s\n", error.what());
    return 1;
  }
}
