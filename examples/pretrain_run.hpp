// One rank's part of a training run: data, trainer, loop, log, checkpoints and the line at the end; shared by the programs that train.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/config/describe.hpp"
#include "golem/config/stages.hpp"
#include "device.hpp"
#include "golem/data/loader.hpp"
#include "golem/io/background_save.hpp"
#include "golem/io/checkpoint.hpp"
#include "golem/report/loss_chart.hpp"
#include "golem/report/metrics_log.hpp"
#include "golem/report/progress.hpp"
#include "pretrain_data.hpp"
#include "pretrain_ranks.hpp"
#include "ranks.hpp"
#include "run_folder.hpp"

namespace examples {

/// Set by a signal: the run saves and leaves.
inline volatile std::sig_atomic_t interrupted = 0;

/// A second SIGINT ends the process, but not within a second: launchers and timeout(1) send the same one twice. Other signals may come one after the other,
/// as Slurm's do where time is up.
inline void leave_at(int signal) {
  static volatile std::time_t first = 0;
  const std::time_t now = std::time(nullptr);
  interrupted = 1;
  if (signal != SIGINT) return;
  if (first == 0) first = now;
  if (now - first < 2) return;
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

// Everything that a checkpoint holds.
template <class TrainerType>
struct State {
  TrainerType& trainer;
  golem::Loader& loader;
  std::string tokenizer;
  std::int64_t last_step = 0;

  void visit_state(golem::StateVisitor& visitor) {
    visitor.text("tokenizer", tokenizer);
    visitor.integer("last_step", last_step);
    trainer.visit_state(visitor);
    loader.visit_state(visitor);
  }
};

// Throws Error where the command line says what the run that was just resumed has otherwise: the checkpoint's is what counts.
template <class TrainerType>
void check_resumed(const PretrainOptions& options, TrainerType& trainer) {
  const golem::Levers& levers = trainer.levers();
  const auto check = [&](const char* option, const auto& wanted, const auto& kept, const char* remedy) {
    golem::require(!options.said.contains(option) || wanted == kept, option, ' ', wanted, " was given for a run that is resumed with ", kept, ": leave it out", remedy);
  };
  check("--peak-lr", options.peak, levers.learning_rate.peak, ", or change it by --new-peak-lr");
  check("--min-lr", options.min, levers.learning_rate.min, ", or change it by --new-min-lr");
  check("--warmup", static_cast<double>(options.warmup), static_cast<double>(levers.learning_rate.warmup_samples) / static_cast<double>(options.batch), ", or warm up again by --rewarm");
  check("--shrink", options.shrink, levers.shrink.alpha, ", or change it by --new-shrink");
  check("--beta2", options.beta2, levers.beta2, ", or change it by --new-beta2");
  check("--weight-decay", options.weight_decay, levers.weight_decay, ", or change it by --new-weight-decay");
  check("--clip", options.clip, levers.clip, ", or change it by --new-clip");
  check("--seed", options.seed, trainer.config().seed, ", or change the order of rows by --reshuffle");
}

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
  set(levers.beta2, options.new_beta2, "beta2");
  set(levers.weight_decay, options.new_weight_decay, "weight decay");
  set(levers.clip, options.new_clip, "largest gradient norm");
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

// What is to be told of a run that goes on to another end.
inline std::string other_end(std::int64_t before, std::int64_t now, const golem::LearningRate& rate) {
  return golem::sentence("the run ends after step ", now, ", and was to end after step ", before, "; its learning rate goes on as it began, and is ", rate.min, " from row ", rate.decay_samples, " on");
}

// The JSON line of the run that goes on, as it ended before; empty where it did not come so far. A checkpoint lies in its run's folder.
inline nlohmann::json former_summary(const std::string& checkpoint) {
  std::ifstream file(RunFolder{checkpoint + "/.."}.summary());
  nlohmann::json line = nlohmann::json::parse(file, nullptr, false);
  return line.is_object() ? line : nlohmann::json::object();
}

// One rank's part of the run. Rank 0 prepares the files, logs and prints.
template <class M, class P, int Tp>
void pretrain(const PretrainOptions& options, const PretrainJob& job, golem::World& world) {
  const auto begin = std::chrono::steady_clock::now();
  Device device = make_device(world, threads_of(options.threads, options.layout.ranks()));
  connect(world, device);
  world.count();
  const bool leads = world.rank() == 0, resumes = !options.resume.empty();
  const RunFolder run{options.out};
  const golem::BlankRecipe& recipe = job.recipe;
  const std::string fingerprint = golem::describe(M::config);
  world.agree("the model", fingerprint);
  const std::string resumed = resumes ? golem::find_checkpoint(options.resume == "auto" ? options.out : options.resume) : "";
  const golem::CheckpointState was = resumes ? golem::checkpoint::read_state(resumed) : golem::CheckpointState();
  const SavedInstructions saved(was);
  if (leads) {
    const auto note = [&](std::string_view activity) {
      golem::require(interrupted == 0, "the run was told to stop before its first step, while it was ", activity);
      world.note(0, activity);
    };
    run.create();
    golem::require(resumes || golem::checkpoint::saved_steps(run.path).empty(), "the run's folder '", run.path, "' has checkpoints of a former run: go on with that by --resume auto, or name another folder by --out");
    const golem::AnyTokenizer made = make_tokenizer(options, run, M::config.vocab, note);
    if (!resumes) build_corpora(options, run, made, recipe, note), std::remove(run.summary().c_str());  // which is of a former run
    build_instructions(options, run, saved, made, note);
  }
  world.all().barrier();
  const golem::AnyTokenizer tokenizer = golem::AnyTokenizer::load(run.tokenizer());
  const RunData data(options, run, saved, tokenizer);
  const golem::Corpus& training_rows = data.training;
  golem::require(training_rows.header().tokenizer == tokenizer.digest(), "the corpus '", run.training_rows(), "' was made with another tokenizer than '", run.tokenizer(),
                 "': begin the run anew");
  world.note(0, "opening the data");
  std::optional<HeldOut> held_out;
  if (!options.held_out.empty()) held_out.emplace(options.held_out, tokenizer);
  world.agree("the data", describe_data(tokenizer, data) + (held_out ? ", held-out text " + held_out->digest() : ""));

  golem::TrainerCore<M, P, Tp, Device> trainer(device, job.training, world);
  golem::Loader loader(training_rows, recipe, tokenizer.special(), data.loading(options, job.training.batch, world.data_rank(), world.layout().dp));
  State<decltype(trainer)> state{trainer, loader, tokenizer.digest(), options.steps};
  const golem::LoadOptions loading{.model = fingerprint, .ranks = world.layout().ranks()};
  std::vector<std::string> notes;
  if (resumes) {
    world.note(0, "loading the checkpoint");
    const std::int64_t rows = saved_number(was, "batch.full", job.training.batch.full);
    golem::require(rows == job.training.batch.full, "the run in '", options.out, "' takes steps of ", rows, " rows, and was to go on with ", job.training.batch.full, ": give --batch ", rows);
    golem::load(resumed, state, loading);
    golem::require(state.tokenizer == tokenizer.digest(), "the checkpoint in '", options.out, "' belongs to another tokenizer than '", run.tokenizer(), "'");
    check_resumed(options, trainer);
    if (options.said.contains("--steps") && options.steps != state.last_step)
      notes.push_back(other_end(std::exchange(state.last_step, options.steps), options.steps, trainer.levers().learning_rate));
    if (!data.instructions && exists(run.instructions())) notes.push_back(golem::sentence("'", run.instructions(), "' is left out, since the checkpoint has no instructions: to begin with some, give --instructions"));
    for (std::string& note : pull_levers(options, trainer, loader)) notes.push_back(std::move(note));
  }
  const std::int64_t last_step = state.last_step;
  world.agree("the last step", golem::sentence(last_step));
  std::optional<golem::MetricsLog> log;
  if (leads) log.emplace(run.metrics(), golem::MetricsOptions{.resumed_step = trainer.steps()});
  for (const std::string& note : notes)
    if (leads) {
      log->write_note(trainer.steps(), note);
      std::fprintf(stderr, "%s\n", note.c_str());
    }

  const auto bits_per_byte = [&] {
    std::int64_t window = 0;  // each data rank scores its part of them
    const auto nats = [&](const golem::Batch& batch) { return window++ % world.layout().dp == world.data_rank() ? trainer.evaluate(batch).nats : 0.0; };
    std::vector<double> sum{held_out->bits_per_byte(M::config.context, tokenizer.special(), nats)};
    trainer.sum(sum, world.data());
    return sum[0];
  };
  nlohmann::ordered_json summary{{"job", options.job}, {"model", options.model}, {"precision", P::name}, {device_key, name_of(device)}, {"threads", threads_of(device)},
                                 {"layout", {{"tp", world.layout().tp}, {"pp", world.layout().pp}, {"dp", world.layout().dp}, {"sequence_parallel", world.layout().sequence_parallel},
                                             {"schedule", options.schedule}, {"chunks", options.chunks}, {"zero", options.zero}}},
                                 {"params", trainer.parameter_elements()}, {"vocab", M::config.vocab}, {"corpus_tokens", training_rows.rows() * recipe.row}, {"order", options.order},
                                 {"instructions", data.instructions ? data.instructions->pairs() : 0}};
  constexpr double no_number = std::numeric_limits<double>::quiet_NaN();  // null in JSON: what was not measured here
  const nlohmann::json former = resumes ? former_summary(resumed) : nlohmann::json::object();
  if (held_out) summary["held_out"] = held_out->digest();  // the text that bpb_start and bpb are of
  if (held_out && trainer.steps() == 0) summary["bpb_start"] = bits_per_byte();
  else if (held_out && former.value("held_out", std::string()) == held_out->digest()) summary["bpb_start"] = former.value("bpb_start", nlohmann::json());

  golem::Progress progress({.steps = last_step});
  golem::BackgroundSaver saver;
  std::string back_to = resumed;  // what a roll-back loads; of a run that goes on its beginning, behind which levers were pulled, until there is another
  std::string rolled_back;        // what was said of a roll-back since the last step
  golem::StepReport last;
  last.loss = no_number;
  double seconds = 0, validation_loss = no_number, paused = 0;
  std::int64_t tokens = 0, steps_here = 0, skipped = 0;
  const auto on_step = [&](const golem::StepReport& report) {
    rolled_back.clear();
    last = report, seconds += report.seconds, tokens += report.tokens, skipped += report.skipped;
    if (!leads) return;
    progress.show(report);
    log->write(report);
    if (++steps_here == 3) std::fprintf(stderr, "%lld steps, about %.1f minutes\n", static_cast<long long>(last_step - report.step), static_cast<double>(last_step - report.step) * report.seconds / 60);
  };
  const auto validate = [&] {
    golem::Loader rows = data.validating(options, recipe, tokenizer.special());
    const std::int64_t all = std::min<std::int64_t>(rows.rows(), options.validation_rows), dp = world.layout().dp, rank = world.data_rank();
    if (all == 0) return;
    rows.seek(all * rank / dp);  // each data rank scores its part of them
    golem::LossSummary losses;
    for (std::int64_t left = all * (rank + 1) / dp - rows.position(); left > 0;) {
      const int count = static_cast<int>(std::min<std::int64_t>(options.micro_batch, left));
      losses += trainer.evaluate(rows.next(count));
      left -= count;
    }
    std::vector<double> sums{losses.row_means, static_cast<double>(losses.rows)};
    trainer.sum(sums, world.data());
    validation_loss = sums[0] / sums[1];
    if (leads) log->write_validation(trainer.steps(), validation_loss);
  };
  const auto barrier = [&] { world.all().barrier(); };
  const auto save = [&] {
    world.note(trainer.steps(), "saving");
    if (leads && !rolled_back.empty()) log->write_note(trainer.steps(), rolled_back);  // again: a run that goes on from here keeps no lines of later steps
    if (leads) log->sync();  // a checkpoint is not to be there without the lines before it
    const golem::SavePause pause = saver.save(options.out, trainer.steps(), state,
                                              {.model = fingerprint, .keep_last = options.keep, .keep_every = options.keep_every, .rank = world.rank(), .ranks = world.layout().ranks(), .barrier = barrier});
    paused = std::max(paused, pause.seconds());
    back_to = options.out;
  };
  const auto roll_back = [&](const golem::StepReport& report) {
    const std::int64_t position = loader.position();
    saver.wait();
    world.all().barrier();
    golem::load(back_to, state, loading);
    state.last_step = last_step;
    if (back_to == resumed) pull_levers(options, trainer, loader);
    rolled_back = golem::sentence("rolled back to step ", trainer.steps(), "; rows ", loader.position(), " to ", position - 1, " are skipped: ", report.note);
    if (leads) log->write_note(report.step, rolled_back);
    loader.seek(position);
  };
  if (options.sentinel == "roll-back" && !resumes) save();  // what there is to go back to
  const golem::LoopEnd end = golem::run_loop(
      trainer, [&](int rows) -> const golem::Batch& { return loader.next(rows); },
      {.last_step = last_step, .validate_every = options.validate_every, .save_every = options.save_every, .stop = &interrupted},
      {.on_step = on_step, .validate = validate, .save = save, .roll_back = roll_back});
  if (end == golem::LoopEnd::stopped && back_to.empty()) world.all().end_run("the run was told to stop before its first step, and has no checkpoint to go on from: begin it again");
  world.note(trainer.steps(), "finishing");
  saver.wait();
  progress.finish();
  summary["steps"] = trainer.steps();
  summary["finished"] = end == golem::LoopEnd::finished;
  summary["skipped"] = skipped;
  summary["tokens"] = tokens;
  summary["tokens_per_s"] = seconds > 0 ? static_cast<double>(tokens) / seconds : no_number;
  summary["loss"] = last.loss;
  summary["validation_loss"] = validation_loss;
  if (steps_here == 0)  // it had ended before
    for (const char* figure : {"tokens", "tokens_per_s", "loss", "validation_loss"})
      if (former.contains(figure)) summary[figure] = former[figure];
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
  golem::replace_file(run.summary(), line);
  std::printf("%s\n", line.c_str());
}

/// Runs a job on all ranks: `choose()` makes it, and throws Error for what the options ask in vain. The program's status.
template <class Choose>
int run_pretraining(const CommandLine& line, const PretrainOptions& options, Choose choose) {
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) std::signal(signal, leave_at);
  const auto agree = [&](golem::World& world) {
    world.note(0, "preparing the run");
    agree_on_options(options, world);
  };
  return run_program(options.job.c_str(), line, options.layout, options.deadline, agree, [&] {
    check_options(options);
    require_device(options.job);
    const PretrainJob job = choose();
    golem::checked(job.training, options.layout);
    return [&options, job](golem::World& world) { job.run(options, job, world); };
  });
}

}  // namespace examples
