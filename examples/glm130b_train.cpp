// glm130b_train: GLM-130B's training as it was launched, on paper (--plan), on its ranks, or to the end with a small sibling (--model tiny).
// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "device.hpp"
#include "golem/comm/tcp.hpp"
#include "golem/config/describe.hpp"
#ifdef GOLEM_EXAMPLES_MPI
#include "golem/comm/mpi.hpp"
#endif
#include "glm130b_launch.hpp"
#include "golem/report/timeline.hpp"
#include "plan_options.hpp"
#include "plan_training.hpp"
#include "pretrain_run.hpp"
#include "ranks.hpp"

namespace {

using examples::Launch, examples::PretrainOptions;

struct Options {
  PretrainOptions run;
  bool plan = false;
  std::string hardware = "A100-40G", timeline, memory;
  double products = 0.51;  // what the original's reached: fitted on its 88.5 s a step
};

void add_options(CLI::App& app, Options& o) {
  o.run.model = "glm_130b";
  app.add_option("--model", o.run.model, "glm_130b, or tiny: the same program on a small sibling, eight ranks of this machine")->capture_default_str();
  app.add_option("--dp", o.run.layout.dp, "data-parallel ranks; 0: as launched")->check(CLI::NonNegativeNumber);
  app.add_option("--pp", o.run.layout.pp, "pipeline stages; 0: as launched")->check(CLI::NonNegativeNumber);
  examples::note_said(app.add_option("--steps", o.run.steps, "optimizer steps in all; 0: until all rows are read; a resumed run keeps its own without it")->check(CLI::NonNegativeNumber), o.run);
  examples::add_file_options(app, o.run);
  o.run.order = "original", o.run.instruction_part = examples::glm_130b_launch.instruction_part;
  examples::add_row_options(app, o.run);
  examples::add_lever_options(app, o.run);
  auto* paper = app.add_option_group("plan", "what it would take, without running anything");
  paper->add_flag("--plan", o.plan, "print it: bytes a rank, seconds a step, days");
  paper->add_option("--hardware", o.hardware, "A100-40G, A100-80G, H100, H200, V100-32G, RTX 3090 or RTX 2080 Ti")->capture_default_str();
  examples::add_products_option(*paper, o.products);
  paper->add_option("--timeline", o.timeline, "SVG file for a timeline of a step");
  paper->add_option("--memory", o.memory, "SVG file for a chart of the memory");
}

// The launch with what the command line says otherwise; and the options of the run that it makes.
Launch launch_for(const Launch& launched, PretrainOptions& run) {
  Launch launch = launched;
  if (run.layout.dp > 0) launch.layout.dp = run.layout.dp;
  if (run.layout.pp > 0) launch.layout.pp = run.layout.pp;
  launch.training.sentinel.action = examples::sentinel_action(run.sentinel);
  run.layout = launch.layout;
  run.batch = launch.training.batch.full, run.micro_batch = launch.training.micro_batch, run.seed = launch.training.seed;
  run.schedule = golem::name_of(launch.training.schedule), run.chunks = launch.training.chunks, run.zero = launch.training.zero, run.recompute = golem::name_of(launch.training.recompute);
  if (run.steps == 0) run.steps = examples::steps_of(launch);
  run.save_every = launch.save_every, run.validate_every = launch.validate_every, run.validation_rows = launch.validation_rows;
  return launch;
}

template <class M>
void print_plan(const Options& o, const Launch& launch) {
  const golem::PlannedRun run{.model = M::config,
                              .types = golem::types_of<examples::LaunchPrecision>(),
                              .layout = launch.layout,
                              .training = launch.training,
                              .hardware = golem::hardware_named(o.hardware),
                              .efficiency = {.products = o.products},
                              .overlapped_reduction = false};  // as the original
  const golem::StepOnPaper step = golem::simulate(run);
  const std::string title = golem::sentence(o.run.model, " on ", launch.layout.ranks(), " ", run.hardware.name);
  std::printf("%s: %s\n%s\n", title.c_str(), examples::words(run).c_str(), golem::describe(launch.training).c_str());
  std::printf("%lld parameters; %lld steps of up to %lld rows of %d tokens\n", static_cast<long long>(golem::parameter_count(M::config)), static_cast<long long>(o.run.steps),
              static_cast<long long>(launch.training.batch.full), M::config.context);
  nlohmann::json json{{"job", "glm130b_train"}, {"plan", true}, {"model", o.run.model}, {"hardware", run.hardware.name}, {"ranks", launch.layout.ranks()}, {"steps", o.run.steps},
                      {"parameters", golem::parameter_count(M::config)}, {"layout", examples::json_of(run)}};
  json["memory"] = examples::print_memory(run, o.memory, title);
  json["step"] = examples::print_step(run, step);
  const double days = static_cast<double>(launch.rows) / static_cast<double>(launch.training.batch.full) * step.seconds / 86400;
  std::printf("all rows            %9.1f days\n", days);
  json["days"] = days;
  if (!o.timeline.empty()) {
    golem::Timeline timeline = golem::timeline_of(step);
    timeline.title = title + ": " + examples::words(run);
    golem::write_timeline(o.timeline, timeline);
  }
  std::printf("%s\n", json.dump().c_str());
}

// The job of every rank.
template <class M>
examples::PretrainJob job_of(const Options& o, const Launch& launch) {
  examples::require_device("glm130b_train");
  const auto rank = golem::fullest_stage(M::config, golem::types_of<examples::LaunchPrecision>(), launch.layout, launch.training);
  examples::check_memory(golem::sentence("training ", o.run.model), rank.memory.total() - rank.memory.workspace, launch.layout.ranks());
  return {launch.training, launch.recipe, examples::pretrain<M, examples::LaunchPrecision, examples::launch_of<M>.layout.tp>};
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  PretrainOptions& run = options.run;
  run.job = "glm130b_train", run.layout = {.tp = 0, .pp = 0, .dp = 0}, run.steps = 0;
  CLI::App app("Trains GLM-130B as it was launched in May 2022: the same layout, schedule, recipe and numbers. --plan says what that takes.");
  add_options(app, options);
  examples::CommandLine line = examples::read_command_line(app, argc, argv, run.layout);
  if (line.ends) return line.status;
  examples::PretrainJob job;
  try {
    if (line.refused.empty())
      examples::with_glm_130b(run.model, [&]<class M>() {
        const Launch launch = launch_for(examples::launch_of<M>, run);
        if (options.plan) return print_plan<M>(options, launch);
        job = job_of<M>(options, launch);
      });
  } catch (const golem::Error& error) {
    line.refused = error.what();
  }
  if (!line.refused.empty()) run.layout = {.dp = golem::read_environment().ranks};  // that the ranks meet in, to be told once
  if (options.plan && line.refused.empty()) return 0;
  return examples::run_pretraining(line, options.run, [&] { return job; });
}
