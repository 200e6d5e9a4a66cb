// pretrain: a GLM from a folder of text: tokenizer, corpus, training with checkpoints, log and chart; or a run that goes on.
// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "golem/config/describe.hpp"
#include "golem/data/loader.hpp"
#include "golem/golem.hpp"
#include "golem/io/checkpoint.hpp"
#include "golem/report/loss_chart.hpp"
#include "golem/report/metrics_log.hpp"
#include "golem/report/progress.hpp"
#include "models.hpp"
#include "run_folder.hpp"

namespace {

volatile std::sig_atomic_t interrupted = 0;

struct Options {
  std::string corpus, held_out, out = "run", model = "small", precision = "auto", tokenizer, resume;
  std::int64_t steps = 4000, batch = 4, warmup = 200, save_every = 0, validate_every = 250, keep = 2;
  int micro_batch = 4, threads = 0;
  double peak = 1.5e-3, min = 1e-5, beta2 = 0.999, weight_decay = 0.1, clip = 1.0, shrink = 1.0;
  std::uint64_t seed = 1234;
  bool recompute = false;
  std::string sentinel = "report";
  // Levers of a resumed run; unset ones keep what the checkpoint says.
  std::optional<double> new_peak, new_min, new_shrink;
  std::optional<std::int64_t> new_shrink_ramp;
  std::optional<std::uint64_t> reshuffle;
  std::int64_t rewarm = 0, skip_rows = 0;
};

golem::SentinelConfig::Action sentinel_action(const std::string& name) {
  using Action = golem::SentinelConfig::Action;
  if (name == "report") return Action::report;
  if (name == "skip") return Action::skip;
  if (name == "roll-back") return Action::roll_back;
  golem::fail("--sentinel takes report, skip or roll-back, not '", name, "'");
}

// The tokenizer of the run: given, kept from before, or trained on the corpus.
golem::Tokenizer make_tokenizer(const Options& options, const examples::RunFolder& run, int vocab) {
  if (!options.resume.empty()) return golem::Tokenizer::load(run.tokenizer());
  std::optional<golem::Tokenizer> tokenizer;
  if (!options.tokenizer.empty()) {
    tokenizer = golem::Tokenizer::load(options.tokenizer);
  } else {
    std::fprintf(stderr, "training a tokenizer of %d pieces\n", vocab);
    std::vector<std::string> texts;
    for (golem::Document& document : golem::read_documents(options.corpus)) texts.push_back(std::move(document.text));
    tokenizer = golem::Tokenizer::train(texts, {.vocab = vocab});
  }
  golem::require(tokenizer->size() <= vocab, "the tokenizer has ", tokenizer->size(), " pieces, and the model '", options.model, "' a vocabulary of ", vocab,
                 ": train another tokenizer, or choose another model");
  golem::corpus::write_file(run.tokenizer(), tokenizer->bytes().data(), tokenizer->bytes().size());
  return std::move(*tokenizer);
}

// Rows for training and validation: from the held-out text where there is some, else from the end of the corpus.
void build_corpora(const Options& options, const examples::RunFolder& run, const golem::Tokenizer& tokenizer, const golem::BlankRecipe& recipe) {
  golem::CorpusBuilder training(recipe.row, tokenizer.size(), tokenizer.digest()), validation(recipe.row, tokenizer.size(), tokenizer.digest());
  std::vector<golem::Document> documents = golem::read_documents(options.corpus);
  for (const golem::Document& document : documents) training.add(tokenizer.encode(document.text), tokenizer.special().eos);
  if (options.held_out.empty()) {
    training.move_tail(validation, 0.02);
  } else {
    for (const golem::Document& document : golem::read_documents(options.held_out)) validation.add(tokenizer.encode(document.text), tokenizer.special().eos);
  }
  training.write(run.training_rows());
  validation.write(run.validation_rows());
}

// Everything that a checkpoint holds.
template <class TrainerType>
struct Run {
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
std::vector<std::string> pull_levers(const Options& options, TrainerType& trainer, golem::Loader& loader) {
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

template <class M, class P>
void pretrain(const Options& options) {
  const auto begin = std::chrono::steady_clock::now();
  const examples::RunFolder run{options.out};
  run.create();
  const golem::Tokenizer tokenizer = make_tokenizer(options, run, M::config.vocab);
  const golem::BlankRecipe recipe = golem::recipe(M::config.context);
  if (options.resume.empty()) build_corpora(options, run, tokenizer, recipe);
  const golem::Corpus training_rows(run.training_rows()), validation_rows(run.validation_rows());
  golem::require(training_rows.header().tokenizer == tokenizer.digest(), "the corpus '", run.training_rows(), "' was made with another tokenizer than '", run.tokenizer(),
                 "': begin the run anew");

  golem::cpu::Device device({.threads = options.threads});
  const std::int64_t rows_in_all = options.steps * options.batch;
  golem::Trainer<M, P> trainer(device, {.seed = options.seed,
                                        .learning_rate = {.peak = options.peak, .min = options.min, .warmup_samples = options.warmup * options.batch, .decay_samples = rows_in_all},
                                        .batch = {.full = options.batch},
                                        .micro_batch = options.micro_batch,
                                        .beta2 = options.beta2,
                                        .weight_decay = options.weight_decay,
                                        .clip = options.clip,
                                        .shrink = {.alpha = options.shrink},
                                        .sentinel = {.action = sentinel_action(options.sentinel)},
                                        .recompute = options.recompute ? golem::Recompute::block : golem::Recompute::none});
  golem::Loader loader(training_rows, recipe, tokenizer.special(), {.seed = options.seed});
  Run<golem::Trainer<M, P>> state{trainer, loader, tokenizer.digest()};
  const std::string fingerprint = golem::describe(M::config);

  if (!options.resume.empty()) {
    golem::load(options.resume == "auto" ? options.out : options.resume, state, {.model = fingerprint});
    golem::require(state.tokenizer == tokenizer.digest(), "the checkpoint in '", options.out, "' belongs to another tokenizer than '", run.tokenizer(), "'");
  }
  golem::MetricsLog log(run.metrics(), {.resumed_step = trainer.steps()});
  if (!options.resume.empty())
    for (const std::string& note : pull_levers(options, trainer, loader)) {
      log.write_note(trainer.steps(), note);
      std::fprintf(stderr, "%s\n", note.c_str());
    }

  std::optional<examples::HeldOut> held_out;
  if (!options.held_out.empty()) held_out.emplace(options.held_out, tokenizer);
  const auto bits_per_byte = [&] {
    return held_out->bits_per_byte(M::config.context, tokenizer.special(), [&](const golem::Batch& batch) { return trainer.evaluate(batch).nats; });
  };
  nlohmann::ordered_json summary{{"job", "pretrain"}, {"model", options.model}, {"precision", P::name}, {"isa", golem::cpu::name_of(device.isa())}, {"threads", device.threads()},
                                 {"params", trainer.parameter_elements()}, {"vocab", M::config.vocab}, {"corpus_tokens", training_rows.rows() * recipe.row}};
  if (held_out && trainer.steps() == 0) summary["bpb_start"] = bits_per_byte();

  golem::Progress progress({.steps = options.steps});
  golem::StepReport last;
  double seconds = 0;
  std::int64_t tokens = 0, steps_here = 0;
  double validation_loss = 0;
  const auto on_step = [&](const golem::StepReport& report) {
    last = report, seconds += report.seconds, tokens += report.tokens;
    progress.show(report);
    log.write(report);
    if (++steps_here == 3) std::fprintf(stderr, "%lld steps, about %.1f minutes\n", static_cast<long long>(options.steps - report.step), static_cast<double>(options.steps - report.step) * report.seconds / 60);
  };
  const auto validate = [&] {
    golem::Loader rows(validation_rows, recipe, tokenizer.special(), {.order = golem::LoaderOptions::Order::stored});
    golem::LossSummary losses;
    for (std::int64_t done = 0; done < std::min<std::int64_t>(validation_rows.rows(), 128);) {
      const int count = static_cast<int>(std::min<std::int64_t>(options.micro_batch, validation_rows.rows() - done));
      losses += trainer.evaluate(rows.next(count));
      done += count;
    }
    validation_loss = losses.loss();
    log.write_validation(trainer.steps(), validation_loss);
  };
  const auto save = [&] { golem::save(options.out, trainer.steps(), state, {.model = fingerprint, .keep_last = options.keep}); };
  const auto roll_back = [&](const golem::StepReport& report) {
    const std::int64_t position = loader.position();
    golem::load(options.out, state, {.model = fingerprint});
    log.write_note(report.step, golem::sentence("rolled back to step ", trainer.steps(), "; rows ", loader.position(), " to ", position - 1, " are skipped: ", report.note));
    loader.seek(position);
  };
  std::signal(SIGINT, [](int) { interrupted = 1; });
  std::signal(SIGTERM, [](int) { interrupted = 1; });
  if (options.resume.empty() && options.sentinel == "roll-back") save();
  const golem::LoopEnd end = golem::run_loop(
      trainer, [&](int rows) -> const golem::Batch& { return loader.next(rows); },
      {.last_step = options.steps, .validate_every = options.validate_every, .save_every = options.save_every, .stop = &interrupted},
      {.on_step = on_step, .validate = validate, .save = save, .roll_back = roll_back});
  progress.finish();
  golem::write_chart(run.chart(), golem::loss_chart(golem::read_metrics(run.metrics())));

  summary["steps"] = trainer.steps();
  summary["finished"] = end == golem::LoopEnd::finished;
  summary["tokens"] = tokens;
  summary["tokens_per_s"] = seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
  summary["loss"] = last.loss;
  summary["validation_loss"] = validation_loss;
  if (held_out && end == golem::LoopEnd::finished) summary["bpb"] = bits_per_byte();
  summary["peak_bytes"] = device.memory().peak();
  summary["out"] = options.out;
  summary["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const std::string line = summary.dump();
  golem::corpus::write_file(run.summary(), line.data(), line.size());
  std::printf("%s\n", line.c_str());
}

void add_options(CLI::App& app, Options& o) {
  app.add_option("--corpus", o.corpus, "folder of UTF-8 text files to learn from");
  app.add_option("--held-out", o.held_out, "folder of text that is only measured: bits per byte before and after");
  app.add_option("--out", o.out, "the run's folder: tokenizer, rows, checkpoints, metrics.jsonl, loss.svg")->capture_default_str();
  app.add_option("--model", o.model, "tiny (2 x 64) or small (4 x 192)")->capture_default_str();
  app.add_option("--precision", o.precision, "fp32, bf16 (with fp32 master weights), or auto: what this processor is faster in")->capture_default_str();
  app.add_option("--tokenizer", o.tokenizer, "a SentencePiece model for GLM, instead of training one");
  app.add_option("--steps", o.steps, "optimizer steps in all")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--batch", o.batch, "rows of a step")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--micro-batch", o.micro_batch, "rows computed at once")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--peak-lr", o.peak, "highest learning rate")->capture_default_str();
  app.add_option("--min-lr", o.min, "learning rate at the end")->capture_default_str();
  app.add_option("--warmup", o.warmup, "steps until the highest learning rate")->capture_default_str();
  app.add_option("--beta2", o.beta2, "decay of the second moment; nearer to 1 for small batches")->capture_default_str();
  app.add_option("--weight-decay", o.weight_decay, "of matrices")->capture_default_str();
  app.add_option("--clip", o.clip, "largest gradient norm")->capture_default_str();
  app.add_option("--shrink", o.shrink, "embedding-gradient shrink; GLM-130B: 0.1")->capture_default_str();
  app.add_option("--seed", o.seed, "of weights and data order")->capture_default_str();
  app.add_option("--threads", o.threads, "0: all")->capture_default_str();
  app.add_option("--save-every", o.save_every, "steps; 0: at the end")->capture_default_str();
  app.add_option("--keep", o.keep, "checkpoints that stay; 0: all")->capture_default_str();
  app.add_option("--validate-every", o.validate_every, "steps")->capture_default_str();
  app.add_option("--sentinel", o.sentinel, "at a spike of the gradient: report, skip or roll-back")->capture_default_str();
  app.add_flag("--recompute", o.recompute, "compute blocks again in the backward pass instead of keeping their activations");
  app.add_option("--resume", o.resume, "go on from a checkpoint's folder, or auto: the latest in --out");
  auto* levers = app.add_option_group("levers", "changes to a resumed run, each written to its log");
  levers->add_option("--new-peak-lr", o.new_peak, "highest learning rate from here on");
  levers->add_option("--new-min-lr", o.new_min, "last learning rate from here on");
  levers->add_option("--rewarm", o.rewarm, "steps over which the learning rate warms up again");
  levers->add_option("--new-shrink", o.new_shrink, "embedding-gradient shrink from here on");
  levers->add_option("--new-shrink-ramp", o.new_shrink_ramp, "steps over which it rises to 1");
  levers->add_option("--reshuffle", o.reshuffle, "another seed of the order of rows");
  levers->add_option("--skip-rows", o.skip_rows, "rows of data that are passed over");
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Pretrains a GLM on a folder of text, with GLM-130B's objective and recipe.");
  add_options(app, options);
  CLI11_PARSE(app, argc, argv);
  try {
    golem::require(!options.corpus.empty() || !options.resume.empty(), "give --corpus with a folder of text, or --resume");
    if (options.precision == "auto") options.precision = golem::cpu::prefers_bf16() ? "bf16" : "fp32";
    examples::with_model(options.model, [&]<class M>() { examples::with_training_precision(options.precision, [&]<class P>() { pretrain<M, P>(options); }); });
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pretrain: %s\n", error.what());
    return 1;
  }
}
