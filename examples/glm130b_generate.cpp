// glm130b_generate: GLM-130B fills blanks and goes on with texts, on 1, 2, 4 or 8 ranks, in fp16, INT8 or INT4; from the keyboard, a file or the command line.
// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "device.hpp"
#include "golem/comm/tcp.hpp"
#include "golem/config/describe.hpp"
#ifdef GOLEM_EXAMPLES_MPI
#include "golem/comm/mpi.hpp"
#endif
#include "generate_options.hpp"
#include "glm130b_models.hpp"
#include "golem/io/open_weights.hpp"
#include "golem/report/whole_file.hpp"
#include "models.hpp"
#include "ranks.hpp"
#include "shared_texts.hpp"

namespace {

using examples::GenerateOptions;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

struct Figures {
  std::int64_t texts = 0, blanks = 0, tokens = 0;
  std::uint64_t next_answer = 0;  // no two answers of a run share their random numbers
  double seconds = 0;
};

// The original's name for a file of answers: the id, or the text's first 20 characters and the time; and a number, where there is such a file.
std::string answers_file(const GenerateOptions& options, const examples::NamedText& text) {
  if (options.with_id) return options.output + "/" + text.id + ".txt";
  std::string name;
  std::size_t characters = 0;
  for (const char c : text.text) {
    if ((static_cast<unsigned char>(c) & 0xC0) != 0x80 && ++characters > 20) break;
    if (c != '/' && static_cast<unsigned char>(c) >= 0x20) name += c;
  }
  const std::time_t now = std::time(nullptr);
  char time[32];
  std::strftime(time, sizeof time, "%m-%d-%H-%M-%S", std::localtime(&now));
  const std::string path = options.output + "/" + name + "-" + time;
  std::string number;
  for (int next = 2; std::filesystem::exists(path + number + ".txt"); ++next) number = golem::sentence("-", next);
  return path + number + ".txt";
}

// What rank 0 is asked next, as tokens on all ranks; no tokens where there is nothing more.
struct Asked {
  examples::NamedText text = {};  // on rank 0 alone
  std::optional<std::vector<std::int32_t>> tokens = {};
};

Asked next_text(examples::TextSource& source, const golem::AnyTokenizer& tokenizer, golem::World& world) {
  Asked asked;
  world.note(0, "waiting for a text");
  while (world.rank() == 0 && !asked.tokens) {
    const std::optional<examples::NamedText> text = source.next();
    if (!text) break;
    try {
      asked = {*text, tokenizer.encode_original(text->text)};
    } catch (const golem::Error& error) {
      if (!source.is_keyboard()) throw;
      std::fprintf(stderr, "%s\n", error.what());
    }
  }
  asked.tokens = examples::share(world, asked.tokens);
  return asked;
}

// A line of JSON for the best answer, or for all; and the file of them, a line each.
void print_answers(std::vector<golem::Filled> filled, const examples::NamedText& asked, const GenerateOptions& options, const golem::AnyTokenizer& tokenizer) {
  std::fprintf(stderr, "\n");
  std::string file;
  for (std::size_t i = 0; i < filled.size(); ++i) {
    golem::Filled& one = filled[i];
    if (!one.text.empty() && one.text.back() == tokenizer.special().eos) one.text.pop_back();
    const std::string text = tokenizer.decode(one.text);
    file += text + "\n";
    if (i > 0 && !options.all_beams) continue;
    nlohmann::ordered_json answers = nlohmann::json::array();
    for (const auto& answer : one.answers) answers.push_back(tokenizer.decode(answer));
    std::printf("%s\n", nlohmann::ordered_json{{"text", text}, {"answers", answers}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  }
  std::fflush(stdout);
  if (!options.output.empty()) golem::write_whole(answers_file(options, asked), "answers", file);
}

// Answers texts until there are none. Rank 0 reads and prints; every rank computes.
template <class EngineType>
Figures answer_texts(EngineType& engine, int vocab, examples::TextSource source, const GenerateOptions& options, const golem::AnyTokenizer& tokenizer, golem::World& world) {
  Figures figures;
  const bool leads = world.rank() == 0;
  std::vector<std::int32_t> invalid;  // none by the original's rules (spec 3): decoding leaves out what no text has
  if (options.sampling.rules == golem::SamplingRules::golem) invalid = tokenizer.ids_without_text(vocab);
  golem::Sampling sampling = options.sampling;
  golem::BeamSearchOptions search = options.search;
  sampling.invalid = search.invalid = invalid;
  for (Asked asked = next_text(source, tokenizer, world); asked.tokens; asked = next_text(source, tokenizer, world)) {
    const Clock::time_point begin = Clock::now();
    examples::TokenStream stream(tokenizer);
    world.note(0, "generating");
    std::vector<golem::Filled> filled;
    const std::uint64_t answer = sampling.answer = search.answer = figures.next_answer;
    figures.next_answer += asked.tokens->size();  // more than it has blanks, should it end with an error at one of them
    const auto show = [&](std::int32_t token) {
      if (leads) stream.show(token);
      return true;
    };
    try {
      if (options.searches()) filled = golem::fill_blanks(engine, *asked.tokens, search, tokenizer.special());
      else filled.push_back(golem::fill_blanks(engine, *asked.tokens, sampling, tokenizer.special(), show));
    } catch (const golem::RunEnded&) {  // another rank is the reason
      throw;
    } catch (const golem::Error& error) {  // all ranks find it: the text is too long, or not of this tokenizer
      if (!options.interactive()) world.all().end_run(error.what());
      if (leads) std::fprintf(stderr, "%s\n", error.what());
      continue;
    }
    figures.seconds += seconds_since(begin), ++figures.texts;
    const std::size_t answers = filled.empty() ? 0 : filled.front().answers.size();
    figures.blanks += static_cast<std::int64_t>(answers), figures.next_answer = answer + answers;
    for (const golem::Filled& one : filled)
      for (const auto& answer : one.answers) figures.tokens += static_cast<std::int64_t>(answer.size());
    if (leads) print_answers(std::move(filled), asked.text, options, tokenizer);
  }
  return figures;
}

// Ranks read their weights together, or one after the other.
template <class M, class EngineType>
void read_weights(EngineType& engine, const GenerateOptions& options, golem::World& world) {
  for (int turn = 0; turn < (options.sequential ? world.all().size() : 1); ++turn) {
    if (!options.sequential || turn == world.rank()) {
      world.note(0, "reading weights");
      const auto source = golem::open_weights(options.checkpoint, M::config, world.all().size(), world.rank());
      golem::require(!options.stored || source->has("transformer.layers.0.attention.query_key_value.weight_scale"), "the weights in '", options.checkpoint,
                     "' are not quantised: leave --from-quantized-checkpoint away");
      engine.load_weights(*source);
    }
    if (options.sequential) world.all().barrier();
  }
}

// Tokens that a text may have with its answer; the last of an answer needs no place in the cache.
template <class M>
int capacity_of(const GenerateOptions& options) {
  return std::min(options.out_length - 1, M::config.context);
}

golem::AnyTokenizer load_tokenizer(const GenerateOptions& options) {
  if (!options.tokenizer.empty()) return golem::AnyTokenizer::load(options.tokenizer);
  const std::string beside = options.checkpoint + "/tokenizer.model";
  golem::require(std::filesystem::exists(beside), "there is no '", beside, "': name the model's tokenizer with --tokenizer; GLM-130B's is icetk's ice_text.model");
  return golem::AnyTokenizer::load(beside);
}

// Before anything is computed for it.
void make_folder(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  golem::require(std::filesystem::is_directory(folder), "the folder '", folder, "' for answers cannot be made", error ? ": " + error.message() : std::string(), "; name another with --output-path");
}

template <class M, class P, int Tp>
void generate(const GenerateOptions& options, golem::World& world) {
  const Clock::time_point begin = Clock::now();
  const bool leads = world.rank() == 0;
  if (leads && !options.output.empty()) make_folder(options.output);
  examples::TextSource source = !leads || !options.text.empty() ? examples::TextSource::from_text(options.text)
                                : options.interactive()          ? examples::TextSource::from_keyboard()
                                                                 : examples::TextSource::from_file(options.input, options.with_id ? examples::TextLines::with_ids : examples::TextLines::plain);
  const golem::AnyTokenizer tokenizer = load_tokenizer(options);
  world.agree("the tokenizer", tokenizer.digest());
  golem::require(tokenizer.size() <= M::config.vocab, "the tokenizer has ", tokenizer.size(), " pieces, and the model a vocabulary of ", M::config.vocab, ": give the model's own tokenizer");
  examples::Device device = examples::make_device(world, examples::threads_of(options.threads, Tp));
  examples::connect(world, device);
  golem::Engine<M, P, golem::Layout{.tp = Tp}, examples::Device> engine(device, world, {.sequences = options.sequences(), .capacity = capacity_of<M>(options)});
  read_weights<M>(engine, options, world);
  const double loading = seconds_since(begin);
  world.all().barrier();
  const Figures figures = answer_texts(engine, M::config.vocab, std::move(source), options, tokenizer, world);
  if (!leads) return;
  nlohmann::ordered_json line{{"job", "glm130b_generate"}, {"model", options.model}, {"precision", options.precision}, {"tp", Tp}, {"threads", examples::threads_of(device)}, {"texts", figures.texts},
                              {"blanks", figures.blanks}, {"tokens", figures.tokens}, {"tokens_per_s", figures.seconds > 0 ? static_cast<double>(figures.tokens) / figures.seconds : 0.0},
                              {"loading_s", loading}, {"peak_bytes", device.memory().peak()}, {"seconds", seconds_since(begin)}};
  if (!examples::Device::host_memory) line["graphs"] = examples::graphs_of(device);
  std::printf("%s\n", line.dump().c_str());
}

using Job = void (*)(const GenerateOptions&, golem::World&);

// That job, where the machine has the memory for it.
template <class M, class P, int Tp>
Job checked_job(const GenerateOptions& options) {
  const golem::InferenceMemory memory = golem::plan_inference<M, P>(options.sequences(), capacity_of<M>(options), Tp);
  examples::check_memory(golem::sentence(options.model, " in ", options.precision), memory.total(), Tp);
  return generate<M, P, Tp>;
}

// The quantised engine of that model and degree: with the original's products, or with golem's, which read each weight once, as it is stored.
template <class M, golem::Quant Q, int Tp>
Job quantized_job(const GenerateOptions& options) {
  Job job = nullptr;
  const auto use = [&]<class P>() { job = checked_job<M, P, Tp>(options); };
  if (options.products == "original") examples::with_products<golem::quantized<Q, golem::fp16_exact>>(use);
  else if (options.products == "golem") examples::with_products<golem::quantized<Q, golem::fp16>>(use);
  else golem::fail("--products takes original or golem, not '", options.products, "'");
  return job;
}

// The engine of that model, precision and degree, which rounds where the original does (spec 1.3, 5.1).
Job job_of(const GenerateOptions& options) {
  Job job = nullptr;
  examples::with_glm_130b(options.model, [&]<class M>() {
    examples::with_tensor_degree<M>(options.tp, [&]<int Tp>() {
      if (options.precision == "fp16") job = checked_job<M, golem::fp16_exact, Tp>(options);
      else if (options.precision == "int8") job = quantized_job<M, golem::Quant{.bits = 8}, Tp>(options);
      else if (options.precision == "int4") job = quantized_job<M, golem::Quant{.bits = 4}, Tp>(options);
      else golem::fail("--precision takes fp16, int8 or int4, not '", options.precision, "'");
    });
  });
  return job;
}

}  // namespace

int main(int argc, char** argv) {
  GenerateOptions options;
  golem::Layout layout;
  CLI::App app("Fills the [MASK]s of texts with GLM-130B, or goes on behind [gMASK]; without either, goes on behind the text.");
  examples::add_options(app, options);
  const examples::CommandLine line = examples::read_command_line(app, argc, argv, layout);
  if (line.ends) return line.status;
  if (line.refused.empty()) layout.tp = options.tp > 0 ? options.tp : golem::read_environment().ranks;
  options.tp = layout.tp;
  const double deadline = options.interactive() ? 0 : options.deadline;  // a person may think for as long as she likes
  return examples::run_program(
      "glm130b_generate", line, layout, deadline, [&](golem::World& world) { world.agree("the options", examples::describe(options)); },
      [&] {
        examples::check_options(options);
        examples::require_device("glm130b_generate");
        return [&options, job = job_of(options)](golem::World& world) { job(options, world); };
      });
}
