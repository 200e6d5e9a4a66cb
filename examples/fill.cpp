// fill: fills the blanks of a text, or continues it, from the keyboard, a file or the command line; shows tokens as they come.
// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "device.hpp"
#include "golem/config/describe.hpp"
#include "golem/data/tokenizer.hpp"
#include "golem/io/checkpoint_weights.hpp"
#include "models.hpp"
#include "run_folder.hpp"
#include "shared_texts.hpp"

namespace {

struct Options {
  std::string run = "run", checkpoint, precision = "full", text, file;
  golem::Sampling sampling{.top_k = 1, .max_tokens = 64};
  golem::BeamSearchOptions search{.beams = 1};
  bool samples_beams = false;
  int threads = 0;
};

struct Figures {
  std::int64_t texts = 0, blanks = 0, tokens = 0;
  std::uint64_t next_answer = 0;  // no two answers of a run share their random numbers
  double seconds = 0;
};

template <class EngineType>
void fill_text(EngineType& engine, const std::string& text, const Options& options, const golem::Tokenizer& tokenizer, Figures& figures) {
  const auto begin = std::chrono::steady_clock::now();
  const auto show = [&](std::int32_t token) {
    std::fputs(tokenizer.decode({&token, 1}).c_str(), stderr);
    std::fflush(stderr);
    ++figures.tokens;
    return true;
  };
  golem::require_text(text, "the text");
  const std::vector<std::int32_t> tokens = tokenizer.encode_prompt(text);
  const std::uint64_t answer = figures.next_answer;
  figures.next_answer += tokens.size();  // more than it has blanks, should it end with an error at one of them
  std::vector<golem::Filled> filled;  // one for each beam, best first
  if (options.search.beams > 1) {
    golem::BeamSearchOptions search = options.search;
    search.answer = answer;
    search.min_tokens = options.sampling.min_tokens, search.max_tokens = options.sampling.max_tokens, search.seed = options.sampling.seed;
    search.choice = options.samples_beams ? golem::BeamSearchOptions::Choice::sampled : golem::BeamSearchOptions::Choice::best;
    filled = golem::fill_blanks(engine, tokens, search, tokenizer.special());
    for (const auto& answer : filled.front().answers) figures.tokens += static_cast<std::int64_t>(answer.size());
  } else {
    golem::Sampling sampling = options.sampling;
    sampling.answer = answer;
    filled.push_back(golem::fill_blanks(engine, tokens, sampling, tokenizer.special(), show));
  }
  figures.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  figures.blanks += static_cast<std::int64_t>(filled.front().answers.size());
  figures.next_answer = answer + filled.front().answers.size();
  ++figures.texts;
  std::fprintf(stderr, "\n");
  const auto written = [&](const golem::Filled& one) {
    nlohmann::ordered_json answers = nlohmann::json::array();
    for (const auto& answer : one.answers) answers.push_back(tokenizer.decode(answer));
    return nlohmann::ordered_json{{"text", tokenizer.decode(one.text)}, {"answers", answers}};
  };
  nlohmann::ordered_json line = written(filled.front());
  for (std::size_t beam = 1; beam < filled.size(); ++beam) line["other_beams"].push_back(written(filled[beam]));
  std::printf("%s\n", line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  std::fflush(stdout);
}

template <class M, class P>
void run(const Options& options) {
  const golem::Tokenizer tokenizer = golem::Tokenizer::load(examples::RunFolder{options.run}.tokenizer());
  golem::World alone;
  examples::Device device = examples::make_device(alone, options.threads);
  golem::Engine<M, P, golem::Layout{}, examples::Device> engine(device, {.sequences = options.search.beams});
  golem::load(engine, options.checkpoint.empty() ? options.run : options.checkpoint, {.model = golem::describe(M::config)});
  Figures figures;
  examples::TextSource source = !options.text.empty() ? examples::TextSource::from_text(options.text)
                                : options.file.empty() ? examples::TextSource::from_keyboard()
                                                       : examples::TextSource::from_file(options.file, examples::TextLines::plain);
  while (const std::optional<examples::NamedText> text = source.next()) {
    try {
      fill_text(engine, text->text, options, tokenizer, figures);
    } catch (const golem::Error& error) {
      if (!source.is_keyboard()) throw;
      std::fprintf(stderr, "%s\n", error.what());
    }
  }
  std::printf("%s\n", nlohmann::ordered_json{{"job", "fill"}, {"precision", P::name}, {"texts", figures.texts}, {"blanks", figures.blanks}, {"tokens", figures.tokens},
                                             {"tokens_per_s", figures.seconds > 0 ? static_cast<double>(figures.tokens) / figures.seconds : 0.0}, {"seconds", figures.seconds}}
                          .dump()
                          .c_str());
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Fills the [MASK]s of a text, or continues it behind [gMASK]; without either, continues it.");
  app.add_option("--run", options.run, "the run's folder: tokenizer and latest checkpoint")->capture_default_str();
  app.add_option("--checkpoint", options.checkpoint, "another checkpoint, for instance one that quantize made");
  app.add_option("--precision", options.precision, "full, int8 or int4 (groups of 32)")->capture_default_str();
  app.add_option("--text", options.text, "the text; without it and --file, lines from the keyboard");
  app.add_option("--file", options.file, "a file of texts, a line each");
  CLI::Option* const beams = app.add_option("--beams", options.search.beams, "of a beam search instead of sampling; 1: none")->capture_default_str()->check(CLI::PositiveNumber);
  CLI::Option* const top_k = app.add_option("--top-k", options.sampling.top_k, "tokens drawn from; 1: greedy, 0: all")->capture_default_str()->check(CLI::NonNegativeNumber)->excludes(beams);
  app.add_option("--temperature", options.sampling.temperature, "of sampling")->capture_default_str()->check(CLI::PositiveNumber)->needs(top_k);  // whose default is greedy
  app.add_option("--top-p", options.sampling.top_p, "probability that the tokens drawn from have together; 0: all")->capture_default_str()->check(CLI::Range(0.0, 1.0))->needs(top_k);
  app.add_option("--length-penalty", options.search.length_penalty, "of the beam search: above 0 favours long answers")->capture_default_str()->needs(beams);
  app.add_option("--no-repeat-ngram", options.search.no_repeat_ngram, "tokens in a row that a beam may not generate twice; 0: any may come again")->capture_default_str()->needs(beams);
  app.add_flag("--sample-beams", options.samples_beams, "draw the candidates of the beam search, as the original's command line does")->needs(beams);
  app.add_option("--min-tokens", options.sampling.min_tokens, "of an answer")->capture_default_str()->check(CLI::NonNegativeNumber);
  app.add_option("--max-tokens", options.sampling.max_tokens, "of an answer")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--seed", options.sampling.seed, "of sampling")->capture_default_str();
  examples::add_threads_option(app, options.threads, "0: all");
  CLI11_PARSE(app, argc, argv);
  try {
    examples::require_device("fill");
    examples::with_model(examples::read_summary({options.run}).value("model", std::string()), [&]<class M>() { examples::with_engine_precision(options.precision, [&]<class P>() { run<M, P>(options); }); });
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", examples::program_name("fill").c_str(), error.what());
    return 1;
  }
}
