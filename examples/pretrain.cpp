// pretrain: a GLM from a folder of text: tokenizer, corpus, training with checkpoints, log and chart; or a run that goes on. On one rank or many.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "golem/config/describe.hpp"
#include "golem/data/loader.hpp"
#include "golem/golem.hpp"
#ifdef GOLEM_EXAMPLES_MPI
#include "golem/comm/mpi.hpp"
#endif
#include "golem/io/background_save.hpp"
#include "golem/io/checkpoint.hpp"
#include "golem/report/loss_chart.hpp"
#include "golem/report/metrics_log.hpp"
#include "golem/report/progress.hpp"
#include "models.hpp"
#include "pretrain_data.hpp"
#include "pretrain_options.hpp"
#include "run_folder.hpp"

namespace {

using examples::PretrainOptions, examples::RunFolder;

volatile std::sig_atomic_t interrupted = 0;

// Everything that a checkpoint holds.
template <class TrainerType>
struct State {
  TrainerType& trainer;
  golem::Loader& loader;
  std::string tokenizer;

  void visit_state(golem::StateVisitor& visitor) {
    visitor.text("tokenizer", tokenizer);
    trainer.visit_state(visitor);
    loader.visit_state(visitor);
  }
};

// Applies the levers of the command line to a run that was just resumed, and says what changed.
template <class TrainerType>
std::vector<std::string> pull_levers(const PretrainOptions& options, TrainerType& trainer, golem::Loader& loader) {
  std::vector<std::string> notes;
  golem::Levers& levers = trainer.levers();
  const auto set = [&](auto& value, const auto& given, const char* name) {
    if (!given) return;
    notes.push_back(golem::sentence(name, " changed from ", value, " to ", *given));
    value = *given;
  };
  set(levers.learning_rate.peak, options.new_peak, "peak learning rate");
  set(levers.learning_rate.min, options.new_min, "minimum learning rate");
  set(levers.shrink.alpha, options.new_shrink, "embedding shrink");
  if (options.new_shrink_ramp) {
    levers.shrink.ramp_from = trainer.steps(), levers.shrink.ramp_steps = *options.new_shrink_ramp;
    notes.push_back(golem::sentence("embedding shrink rises to 1 over ", *options.new_shrink_ramp, " steps"));
  }
  if (options.rewarm > 0) {
    levers.rewarm_from = trainer.steps(), levers.rewarm_steps = options.rewarm;
    notes.push_back(golem::sentence("learning rate warms up again over ", options.rewarm, " steps"));
  }
  if (options.reshuffle) {
    loader.reshuffle(*options.reshuffle);
    notes.push_back(golem::sentence("rows are shuffled by seed ", *options.reshuffle));
  }
  if (options.skip_rows > 0) {
    loader.skip(options.skip_rows);
    notes.push_back(golem::sentence("rows ", loader.position() - options.skip_rows, " to ", loader.position() - 1, " are skipped"));
  }
  return notes;
}

// Threads of one rank: what was asked for, else OMP_NUM_THREADS, else its share of the machine.
int threads_of(const PretrainOptions& options) {
  if (options.threads > 0) return options.threads;
  if (const char* given = std::getenv("OMP_NUM_THREADS")) return std::max(1, std::atoi(given));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / options.layout.ranks());
}

// Calls and bytes along each axis, of this rank.
nlohmann::ordered_json traffic(golem::World& world) {
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  for (const golem::AxisCount& axis : world.counts()) {
    const golem::TransferCount total = axis.total();
    out[axis.axis] = {{"calls", total.calls}, {"bytes", total.bytes}, {"seconds", total.seconds}};
  }
  return out;
}

// One rank's part of the run. Rank 0 prepares the files, logs and prints.
template <class M, class P, int Tp>
void pretrain(const PretrainOptions& options, golem::World& world) {
  const auto begin = std::chrono::steady_clock::now();
  const bool leads = world.rank() == 0, resumes = !options.resume.empty();
  const RunFolder run{options.out};
  const golem::BlankRecipe recipe = golem::recipe(M::config.context);
  const std::string fingerprint = golem::describe(M::config);
  world.count();
  world.note(0, "preparing the run");
  world.agree("the model", fingerprint);
  world.agree("the version", golem::sentence(golem::version.major, '.', golem::version.minor, '.', golem::version.patch));
  world.agree("the seed", golem::sentence(options.seed));
  world.agree("the options", golem::sentence(options.steps, " steps of ", options.batch, " rows in micro-batches of ", options.micro_batch, ", ", options.schedule, ", ", P::name));
  if (leads) {
    run.create();
    const golem::Tokenizer made = examples::make_tokenizer(options, run, M::config.vocab);
    if (!resumes) examples::build_corpora(options, run, made, recipe);
  }
  world.all().barrier();
  const golem::Tokenizer tokenizer = golem::Tokenizer::load(run.tokenizer());
  const golem::Corpus training_rows(run.training_rows()), validation_rows(run.validation_rows());
  golem::require(training_rows.header().tokenizer == tokenizer.digest(), "the corpus '", run.training_rows(), "' was made with another tokenizer than '", run.tokenizer(),
                 "': begin the run anew");
  world.agree("the data", golem::sentence(tokenizer.digest(), ", ", training_rows.rows(), " rows"));

  golem::cpu::Device device({.threads = threads_of(options)});
  golem::TrainerCore<M, P, Tp, golem::cpu::Device> trainer(device, examples::training_config(options), world);
  golem::Loader loader(training_rows, recipe, tokenizer.special(), {.seed = options.seed, .rank = world.data_rank(), .ranks = world.layout().dp});
  State<decltype(trainer)> state{trainer, loader, tokenizer.digest()};
  if (resumes) {
    golem::load(options.resume == "auto" ? options.out : options.resume, state, {.model = fingerprint});
    golem::require(state.tokenizer == tokenizer.digest(), "the checkpoint in '", options.out, "' belongs to another tokenizer than '", run.tokenizer(), "'");
  }
  std::optional<golem::MetricsLog> log;
  if (leads) log.emplace(run.metrics(), golem::MetricsOptions{.resumed_step = trainer.steps()});
  if (resumes)
    for (const std::string& note : pull_levers(options, trainer, loader))
      if (leads) {
        log->write_note(trainer.steps(), note);
        std::fprintf(stderr, "%s\n", note.c_str());
      }

  std::optional<examples::HeldOut> held_out;
  if (!options.held_out.empty()) held_out.emplace(options.held_out, tokenizer);
  const auto bits_per_byte = [&] {
    return held_out->bits_per_byte(M::config.context, tokenizer.special(), [&](const golem::Batch& batch) { return trainer.evaluate(batch).nats; });
  };
  nlohmann::ordered_json summary{{"job", "pretrain"}, {"model", options.model}, {"precision", P::name}, {"isa", golem::cpu::name_of(device.isa())}, {"threads", device.threads()},
                                 {"layout", {{"tp", world.layout().tp}, {"pp", world.layout().pp}, {"dp", world.layout().dp}, {"sequence_parallel", world.layout().sequence_parallel},
                                             {"schedule", options.schedule}, {"chunks", options.chunks}, {"zero", options.zero}}},
                                 {"params", trainer.parameter_elements()}, {"vocab", M::config.vocab}, {"corpus_tokens", training_rows.rows() * recipe.row}};
  if (held_out && trainer.steps() == 0) summary["bpb_start"] = bits_per_byte();

  golem::Progress progress({.steps = options.steps});
  golem::BackgroundSaver saver;
  golem::StepReport last;
  double seconds = 0, validation_loss = 0, paused = 0;
  std::int64_t tokens = 0, steps_here = 0;
  const auto on_step = [&](const golem::StepReport& report) {
    last = report, seconds += report.seconds, tokens += report.tokens;
    if (!leads) return;
    progress.show(report);
    log->write(report);
    if (++steps_here == 3) std::fprintf(stderr, "%lld steps, about %.1f minutes\n", static_cast<long long>(options.steps - report.step), static_cast<double>(options.steps - report.step) * report.seconds / 60);
  };
  const auto validate = [&] {
    const int dp = world.layout().dp;
    golem::Loader rows(validation_rows, recipe, tokenizer.special(), {.rank = world.data_rank(), .ranks = dp, .order = golem::LoaderOptions::Order::stored});
    golem::LossSummary losses;
    for (std::int64_t left = std::min<std::int64_t>(validation_rows.rows(), 128) / dp; left > 0;) {
      const int count = static_cast<int>(std::min<std::int64_t>(options.micro_batch, left));
      losses += trainer.evaluate(rows.next(count));
      left -= count;
    }
    std::vector<double> sums{losses.row_means, static_cast<double>(losses.rows)};
    trainer.sum(sums, world.data());
    validation_loss = sums[1] > 0 ? sums[0] / sums[1] : 0;
    if (leads) log->write_validation(trainer.steps(), validation_loss);
  };
  const auto barrier = [&] { world.all().barrier(); };
  const auto save = [&] {
    world.note(trainer.steps(), "saving");
    const golem::SavePause pause = saver.save(options.out, trainer.steps(), state,
                                              {.model = fingerprint, .keep_last = options.keep, .keep_every = options.keep_every, .rank = world.rank(), .ranks = world.layout().ranks(), .barrier = barrier});
    paused = std::max(paused, pause.seconds());
  };
  const auto roll_back = [&](const golem::StepReport& report) {
    const std::int64_t position = loader.position();
    saver.wait();
    world.all().barrier();
    golem::load(options.out, state, {.model = fingerprint});
    if (leads) log->write_note(report.step, golem::sentence("rolled back to step ", trainer.steps(), "; rows ", loader.position(), " to ", position - 1, " are skipped: ", report.note));
    loader.seek(position);
  };
  if (!resumes && options.sentinel == "roll-back") save();
  const golem::LoopEnd end = golem::run_loop(
      trainer, [&](int rows) -> const golem::Batch& { return loader.next(rows); },
      {.last_step = options.steps, .validate_every = options.validate_every, .save_every = options.save_every, .stop = &interrupted},
      {.on_step = on_step, .validate = validate, .save = save, .roll_back = roll_back});
  world.note(trainer.steps(), "finishing");
  saver.wait();
  progress.finish();
  summary["steps"] = trainer.steps();
  summary["finished"] = end == golem::LoopEnd::finished;
  summary["tokens"] = tokens;
  summary["tokens_per_s"] = seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
  summary["loss"] = last.loss;
  summary["validation_loss"] = validation_loss;
  summary["traffic"] = traffic(world);
  char digest[17];
  std::snprintf(digest, sizeof digest, "%016llx", static_cast<unsigned long long>(trainer.digest()));
  summary["digest"] = digest;
  if (held_out && end == golem::LoopEnd::finished) summary["bpb"] = bits_per_byte();
  summary["peak_bytes"] = device.memory().peak();
  summary["save_pause_s"] = paused;
  summary["out"] = options.out;
  summary["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  world.all().barrier();
  if (!leads) return;
  golem::write_chart(run.chart(), golem::loss_chart(golem::read_metrics(run.metrics())));
  const std::string line = summary.dump();
  golem::corpus::write_file(run.summary(), line.data(), line.size());
  std::printf("%s\n", line.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  PretrainOptions options;
  CLI::App app("Pretrains a GLM on a folder of text, with GLM-130B's objective and recipe.");
  examples::add_options(app, options);
  CLI11_PARSE(app, argc, argv);
  try {
    golem::require(!options.corpus.empty() || !options.resume.empty(), "give --corpus with a folder of text, or --resume");
    if (options.precision == "auto") options.precision = golem::cpu::prefers_bf16() ? "bf16" : "fp32";
    std::signal(SIGINT, [](int) { interrupted = 1; });
    std::signal(SIGTERM, [](int) { interrupted = 1; });
    examples::with_model(options.model, [&]<class M>() {
      examples::with_training_precision(options.precision, [&]<class P>() {
        examples::with_tensor_degree<M>(options.layout.tp, [&]<int Tp>() {
          golem::run_world(options.layout, [&](golem::World& world) { pretrain<M, P, Tp>(options, world); }, {.deadline = options.deadline});
        });
      });
    });
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pretrain: %s\n", error.what());
    return 1;
  }
}
