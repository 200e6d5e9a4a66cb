// plan: what training a model takes on a machine and a layout: parameters, bytes, flops, seconds, and what would be faster. Nothing is run.
// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "golem/config/better_layout.hpp"
#include "golem/config/presets.hpp"
#include "golem/report/memory_chart.hpp"
#include "golem/report/timeline.hpp"
#include "golem/report/trace.hpp"

namespace {

struct Options {
  std::string model = "glm_130b", precision = "fp16", gradients = "fp32", recompute = "block_split", schedule = "1f1b", hardware = "A100-40G";
  golem::Layout layout{.tp = 4, .pp = 8, .dp = 24};
  std::int64_t batch = 0;
  int micro_batch = 1, chunks = 1, zero = 1;
  golem::Efficiency efficiency;
  golem::Stragglers stragglers;
  double fit = 0;
  bool wait_to_reduce = false;
  std::string timeline, trace, memory;
};

// Calls use.template operator()<Model>() for the model of that name; another one is one more line.
template <class Use>
auto with_preset(const std::string& name, Use use) {
  if (name == "glm_130b") return use.template operator()<golem::glm_130b>();
  if (name == "glm_10b") return use.template operator()<golem::glm_10b>();
  if (name == "glm_1b") return use.template operator()<golem::glm_1b>();
  if (name == "glm_base") return use.template operator()<golem::glm_base>();
  if (name == "glm_small") return use.template operator()<golem::glm_small>();
  if (name == "glm_tiny") return use.template operator()<golem::glm_tiny>();
  golem::fail(
      "there is no model '", name,
      "' in this program: name one of glm_130b, glm_10b, glm_1b, glm_base, glm_small, glm_tiny, or add a line to with_preset() in examples/plan.cpp");
}

golem::DType type_named(const char* option, const std::string& name) {
  for (const auto type : {golem::DType::f32, golem::DType::f16, golem::DType::bf16})
    if (name == (type == golem::DType::f32 ? "fp32" : type == golem::DType::f16 ? "fp16" : "bf16")) return type;
  golem::fail(option, " takes fp32, fp16 or bf16, not '", name, "'");
}

constexpr const char* recompute_names[]{"none", "attention", "block", "block_split"};

golem::Recompute recompute_named(const std::string& name) {
  for (int i = 0; i < 4; ++i)
    if (name == recompute_names[i]) return static_cast<golem::Recompute>(i);
  golem::fail("--recompute takes none, attention, block or block_split, not '", name, "'");
}

golem::PlannedRun run_of(const Options& o) {
  golem::PlannedRun run{.model = with_preset(o.model, []<class M> { return M::config; }),
                        .types = {type_named("--precision", o.precision), golem::DType::f32, type_named("--gradients", o.gradients)},
                        .layout = o.layout,
                        .training = golem::glm_130b_training,
                        .hardware = golem::hardware_named(o.hardware),
                        .efficiency = o.efficiency,
                        .stragglers = {},
                        .overlapped_reduction = !o.wait_to_reduce};
  golem::TrainingConfig& t = run.training;
  t.micro_batch = o.micro_batch, t.recompute = recompute_named(o.recompute), t.schedule = golem::schedule_named(o.schedule), t.chunks = o.chunks,
  t.zero = o.zero;
  if (o.batch > 0) t.batch.full = o.batch;
  if (o.fit > 0) run = golem::fitted(run, o.fit);
  run.stragglers = o.stragglers;
  return run;
}

double gib(std::int64_t bytes) { return static_cast<double>(bytes) / golem::gibibyte; }

std::string words(const golem::PlannedRun& run) {
  const golem::Layout& l = run.layout;
  const golem::TrainingConfig& t = run.training;
  std::string out =
      golem::sentence("tp ", l.tp, ", pp ", l.pp, ", dp ", l.dp, l.sequence_parallel ? ", sequence parallel" : "", ", ", golem::name_of(t.schedule));
  if (t.chunks > 1) out += golem::sentence(" of ", t.chunks, " chunks");
  return out + golem::sentence(", micro-batches of ", t.micro_batch, ", recompute ", recompute_names[static_cast<int>(t.recompute)]);
}

nlohmann::json json_of(const golem::PlannedRun& run) {
  const golem::TrainingConfig& t = run.training;
  return {{"tp", run.layout.tp},
          {"pp", run.layout.pp},
          {"dp", run.layout.dp},
          {"sequence_parallel", run.layout.sequence_parallel},
          {"schedule", golem::name_of(t.schedule)},
          {"chunks", t.chunks},
          {"micro_batch", t.micro_batch},
          {"recompute", recompute_names[static_cast<int>(t.recompute)]},
          {"zero", t.zero}};
}

// Bytes a rank, stage by stage.
nlohmann::json print_memory(const golem::PlannedRun& run, const std::string& path, const std::string& title) {
  golem::MemoryChart chart{.title = title, .subtitle = words(run), .bars = {}, .limit = run.hardware.usable()};
  nlohmann::json stages = nlohmann::json::array();
  std::printf("\nGiB a rank    weights   master    grads  moments  activations    head   comm    total   in flight\n");
  for (int stage = 0; stage < run.layout.pp; ++stage) {
    const golem::TrainingMemory m = golem::plan_training(run.model, run.types, run.layout, run.training, stage);
    const int micro_batches = golem::micro_batches_of(run.training, run.layout);
    std::printf("stage %-6d %9.2f %8.2f %8.2f %8.2f %12.2f %7.2f %6.2f %8.2f %11d\n", stage, gib(m.weights), gib(m.master_weights), gib(m.gradients),
                gib(m.moments), gib(m.activations), gib(m.head), gib(m.communication), gib(m.total()),
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

nlohmann::json print_step(const golem::PlannedRun& run, const golem::StepOnPaper& step) {
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

// The same rows on each data rank, and ever more of these, up to 16,384 ranks; alike, and with stragglers: by default 2% jitter, and
// one rank in 500 slower.
nlohmann::json print_weak_scaling(golem::PlannedRun run) {
  nlohmann::json rows = nlohmann::json::array();
  const std::int64_t rows_each = run.training.batch.full / run.layout.dp;
  const int model_ranks = run.layout.tp * run.layout.pp,
            most = golem::larger(golem::smaller(16384 / model_ranks, 128 * run.layout.dp), run.layout.dp);
  golem::Stragglers stragglers = run.stragglers;
  if (!stragglers.any()) stragglers.slow_ranks = 0.002, stragglers.jitter = 0.02;
  double first = 0;
  std::printf("\nweak scaling: ranks     rows   seconds   tokens/s     MFU   with stragglers     MFU   of the first\n");
  for (int dp = run.layout.dp;; dp = golem::smaller(2 * dp, most)) {
    run.layout.dp = dp;
    run.training.batch.full = rows_each * dp;
    run.stragglers = {};
    const golem::StepOnPaper calm = golem::simulate(run);
    run.stragglers = stragglers;
    const golem::StepOnPaper real = golem::simulate(run);
    if (first == 0) first = real.mfu;
    std::printf("%19d %8lld %9.2f %10.0f %6.1f%% %15.2f s %6.1f%% %13.1f%%\n", run.layout.ranks(), static_cast<long long>(run.training.batch.full),
                calm.seconds, calm.tokens_per_second, 100 * calm.mfu, real.seconds, 100 * real.mfu, 100 * real.mfu / first);
    rows.push_back({{"ranks", run.layout.ranks()},
                    {"rows", run.training.batch.full},
                    {"seconds", calm.seconds},
                    {"mfu", calm.mfu},
                    {"seconds_with_stragglers", real.seconds},
                    {"mfu_with_stragglers", real.mfu}});
    if (dp == most) return rows;
  }
}

nlohmann::json print_better(const golem::PlannedRun& run, const golem::StepOnPaper& step) {
  struct Search {
    const char* what;
    golem::Freedom freedom;
  };
  nlohmann::json found = nlohmann::json::object();
  std::printf("\nfaster on the same machines\n");
  for (const Search& search :
       {Search{"degrees alone", {false, false}}, Search{"schedule too", {true, false}}, Search{"recomputation too", {true, true}}}) {
    const auto choices = golem::better_layouts(run, search.freedom);
    if (choices.empty()) {
      std::printf("  %-18s nothing fits\n", search.what);
      continue;
    }
    const golem::LayoutChoice& best = choices[0];
    std::printf("  %-18s %.2f s (%+.1f%%), MFU %.1f%%: %s\n", search.what, best.step.seconds, 100 * (best.step.seconds / step.seconds - 1),
                100 * best.step.mfu, words(best.run).c_str());
    found[search.what] = {{"layout", json_of(best.run)}, {"seconds", best.step.seconds}, {"mfu", best.step.mfu}};
  }
  return found;
}

// Bytes a rank of an engine for one sequence, by format and tensor degree.
nlohmann::json print_inference(const std::string& name, const golem::Hardware& hardware) {
  nlohmann::json formats = nlohmann::json::object();
  std::printf("\ninference, GiB a rank of %s (%.2f usable)     tp 1     tp 2     tp 4     tp 8\n", hardware.name, gib(hardware.usable()));
  const auto row = [&](const char* format, auto plan) {
    std::printf("  %-38s", format);
    for (const int tp : {1, 2, 4, 8}) {
      const golem::InferenceMemory m = plan(tp);
      std::printf(" %7.2f%c", gib(m.total()), m.total() <= hardware.usable() ? ' ' : '!');
      formats[format].push_back({{"tp", tp}, {"weights", m.weights}, {"total", m.total()}, {"fits", m.total() <= hardware.usable()}});
    }
    std::printf("\n");
  };
  with_preset(name, [&]<class M> {
    row("fp16", [](int tp) { return golem::plan_inference<M, golem::fp16>(1, 0, tp); });
    row("int8", [](int tp) { return golem::plan_inference<M, golem::quantized<golem::Quant{.bits = 8}, golem::fp16>>(1, 0, tp); });
    row("int4", [](int tp) { return golem::plan_inference<M, golem::quantized<golem::Quant{.bits = 4}, golem::fp16>>(1, 0, tp); });
  });
  std::printf("  (!: does not fit)\n");
  return formats;
}

void run(const Options& options) {
  const golem::PlannedRun run = run_of(options);
  const golem::StepOnPaper step = golem::simulate(run);
  const std::string title = golem::sentence(options.model, " on ", run.layout.ranks(), " ", run.hardware.name);
  std::printf("%s: %s\n", title.c_str(), words(run).c_str());
  std::printf("%lld parameters; a step of %lld rows of %d tokens, %d micro-batches on each data rank\n",
              static_cast<long long>(golem::parameter_count(run.model)), static_cast<long long>(run.training.batch.full), run.model.context,
              step.micro_batches);

  nlohmann::json json{{"job", "plan"},
                      {"model", options.model},
                      {"hardware", run.hardware.name},
                      {"ranks", run.layout.ranks()},
                      {"rows", run.training.batch.full},
                      {"parameters", golem::parameter_count(run.model)},
                      {"layout", json_of(run)}};
  json["memory"] = print_memory(run, options.memory, title);
  json["step"] = print_step(run, step);
  json["weak_scaling"] = print_weak_scaling(run);
  json["better"] = print_better(run, step);
  json["inference"] = print_inference(options.model, run.hardware);
  if (!options.timeline.empty()) {
    golem::Timeline timeline = golem::timeline_of(step);
    timeline.title = title + ": " + words(run);
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
  Options o;
  CLI::App app("Plans the training of a model on a cluster: bytes a rank, seconds a step, utilisation, and faster layouts. A line of JSON ends it.");
  app.add_option("model", o.model, "glm_130b, glm_10b, glm_1b, glm_base, glm_small or glm_tiny")->capture_default_str();
  app.add_option("--hardware", o.hardware, "A100-40G, A100-80G, H100, H200, V100-32G, RTX 3090 or RTX 2080 Ti")->capture_default_str();
  app.add_option("--tp", o.layout.tp, "tensor-parallel ranks")->capture_default_str();
  app.add_option("--pp", o.layout.pp, "pipeline stages")->capture_default_str();
  app.add_option("--dp", o.layout.dp, "data-parallel ranks")->capture_default_str();
  app.add_flag("--sequence-parallel", o.layout.sequence_parallel, "cut norms, residuals and dropout over the tokens");
  app.add_option("--schedule", o.schedule, "gpipe, 1f1b, interleaved or zero_bubble")->capture_default_str();
  app.add_option("--chunks", o.chunks, "chunks of layers on each stage, for interleaved")->capture_default_str();
  app.add_option("--batch", o.batch, "rows in a step (4224)");
  app.add_option("--micro-batch", o.micro_batch, "rows computed at once")->capture_default_str();
  app.add_option("--recompute", o.recompute, "none, attention, block or block_split")->capture_default_str();
  app.add_option("--zero", o.zero, "1: ZeRO-1; 0: none")->capture_default_str();
  app.add_option("--precision", o.precision, "of forward and backward: fp16, bf16 or fp32")->capture_default_str();
  app.add_option("--gradients", o.gradients, "what gradients are summed in: fp32, or fp16 as the original")->capture_default_str();
  app.add_option("--products", o.efficiency.products, "part of the machine's peak that products reach")->capture_default_str();
  app.add_option("--fit", o.fit, "seconds of a measured step: sets --products so that this plan takes them");
  app.add_flag("--wait-to-reduce", o.wait_to_reduce, "gradients are reduced after the backward passes, as in the original");
  app.add_option("--slow-ranks", o.stragglers.slow_ranks, "part of the ranks that is slow")->capture_default_str();
  app.add_option("--slowdown", o.stragglers.slowdown, "by how much, as a part of their time")->capture_default_str();
  app.add_option("--jitter", o.stragglers.jitter, "mean of what each action takes longer, as a part of its time")->capture_default_str();
  app.add_option("--timeline", o.timeline, "SVG file for a timeline of the step");
  app.add_option("--trace", o.trace, "JSON file for chrome://tracing or Perfetto");
  app.add_option("--memory", o.memory, "SVG file for a chart of the memory");
  CLI11_PARSE(app, argc, argv);
  try {
    run(o);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "plan: %s\n", error.what());
    return 1;
  }
}
