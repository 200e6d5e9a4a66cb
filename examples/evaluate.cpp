// evaluate: a run on text that it has not seen: bits per byte and blanks, in full precision, INT8 and INT4, beside a trigram model.
// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "device.hpp"
#include "golem/config/describe.hpp"
#include "golem/data/tokenizer.hpp"
#include "golem/eval/blanks.hpp"
#include "golem/eval/ngram.hpp"
#include "golem/io/checkpoint_weights.hpp"
#include "models.hpp"
#include "run_folder.hpp"

namespace {

struct Options {
  std::string run = "run", corpus, held_out, int8, int4, job = "evaluate";
  std::size_t blanks = 100, show = 10;
  int threads = 0;
  double started = 0;
};

double now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

// What was filled into each blank, and how many were right.
struct Answers {
  std::vector<std::string> texts;
  int right = 0;

  void add(const golem::Blank& blank, std::string text) {
    right += golem::exact_match(text, blank.answer);
    texts.push_back(std::move(text));
  }
};

// The tokens before a blank: a space before it belongs to the blank's own first token.
std::vector<std::int32_t> left_of(const golem::Blank& blank, const golem::Tokenizer& tokenizer) {
  std::string_view before = blank.before;
  if (before.ends_with(' ')) before.remove_suffix(1);
  return tokenizer.encode(before);
}

// Candidates: what may be blanked in the training text, by the rule that chose the blanks; the most frequent. The baseline can only choose.
class Candidates {
 public:
  Candidates(const std::vector<std::string>& texts, const golem::Tokenizer& tokenizer) {
    std::unordered_map<std::string, int> english, chinese;
    for (const std::string& text : texts)
      for (std::size_t line = 0, end = 0; line < text.size(); line = end + 1) {
        end = std::min(text.find('\n', line), text.size());
        const std::string_view paragraph = std::string_view(text).substr(line, end - line);
        for (const auto& [from, to] : golem::english_places(paragraph)) ++english[std::string(paragraph.substr(from, to - from))];
        for (const auto& [from, to] : golem::chinese_places(paragraph)) ++chinese[std::string(paragraph.substr(from, to - from))];
      }
    for (const std::string& text : kept(english)) english_.push_back(tokenizer.encode(" " + text)), texts_[0].insert(text);
    for (const std::string& text : kept(chinese)) chinese_.push_back(tokenizer.encode(text)), chinese_spaced_.push_back(tokenizer.encode(" " + text)), texts_[1].insert(text);
  }
  const std::vector<std::vector<std::int32_t>>& of(const golem::Blank& blank) const {
    return !blank.chinese ? english_ : blank.before.ends_with(' ') ? chinese_spaced_ : chinese_;
  }
  bool has(const golem::Blank& blank, const std::string& text) const { return texts_[blank.chinese].contains(std::string(golem::trimmed(text))); }

 private:
  static constexpr std::size_t most = 20000;

  static std::vector<std::string> kept(const std::unordered_map<std::string, int>& counts) {
    std::vector<std::pair<std::string, int>> sorted(counts.begin(), counts.end());
    std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.second > b.second || (a.second == b.second && a.first < b.first); });
    if (sorted.size() > most) sorted.resize(most);
    std::vector<std::string> texts;
    for (auto& [text, count] : sorted) texts.push_back(std::move(text));
    return texts;
  }

  std::vector<std::vector<std::int32_t>> english_, chinese_, chinese_spaced_;
  std::unordered_set<std::string> texts_[2];  // English, Chinese
};

Answers fill_by_trigram(const golem::Trigram& trigram, const Candidates& candidates, const std::vector<golem::Blank>& blanks, const golem::Tokenizer& tokenizer) {
  Answers answers;
  for (const golem::Blank& blank : blanks) {
    const auto& list = candidates.of(blank);
    answers.add(blank, list.empty() ? "" : tokenizer.decode(list[trigram.best_fill(left_of(blank, tokenizer), tokenizer.encode(blank.after), list)]));
  }
  return answers;
}

// What a model filled in: the likeliest answer of a beam search; and the likeliest of its beams that is a candidate, since the baseline too answers with candidates alone.
struct Filled {
  Answers free, chosen;
};

constexpr int beams = 8;  // 16 found one more of 695

template <class EngineType>
Filled fill_by_engine(EngineType& engine, const Candidates& candidates, const std::vector<golem::Blank>& blanks, const golem::Tokenizer& tokenizer) {
  // A blank that is nothing was never learned (spec 2.5).
  const golem::BeamSearchOptions options{.beams = beams, .length_penalty = 0, .min_tokens = 1, .max_tokens = 12};
  Filled filled;
  for (const golem::Blank& blank : blanks) {
    std::vector<std::int32_t> text = left_of(blank, tokenizer), after = tokenizer.encode(blank.after);
    const auto room = static_cast<std::size_t>(engine.capacity() - 16);  // for [MASK], sop and the answer
    if (after.size() > room / 2) after.resize(room / 2);
    if (text.size() + after.size() > room) text.erase(text.begin(), text.end() - static_cast<std::ptrdiff_t>(room - after.size()));
    text.push_back(tokenizer.special().mask);
    text.insert(text.end(), after.begin(), after.end());
    std::vector<std::string> answers;
    for (const golem::Beam& beam : golem::generate_beams(engine, golem::make_prompt(std::move(text), tokenizer.special()), options, tokenizer.special()))
      answers.push_back(tokenizer.decode(beam.tokens));
    const auto chosen = std::find_if(answers.begin(), answers.end(), [&](const std::string& answer) { return candidates.has(blank, answer); });
    filled.free.add(blank, answers.front());
    filled.chosen.add(blank, chosen == answers.end() ? "" : *chosen);
  }
  return filled;
}

// Bits per byte of the held-out text at a step of the run, and what the weights were held in for it, before any were quantised.
struct Measured {
  std::int64_t step = -1;
  double bits_per_byte = 0;
  std::string precision = golem::fp32::name;
};

// Bits per byte (unless `known` is of this checkpoint's step) and answers of one checkpoint.
template <class M>
Filled measure(const std::string& precision, const std::string& checkpoint, const Candidates& candidates, const std::vector<golem::Blank>& blanks, const examples::HeldOut& held_out,
               const golem::Tokenizer& tokenizer, examples::Device& device, Measured& known) {
  Filled answers;
  examples::with_engine_precision(precision, [&]<class P>() {
    golem::Engine<M, P, golem::Layout{}, examples::Device> engine(device, {.sequences = beams});
    const std::int64_t step = golem::load(engine, checkpoint, {.model = golem::describe(M::config)});
    if (known.step != step)
      known = {step, held_out.bits_per_byte(M::config.context, tokenizer.special(), [&](const golem::Batch& batch) { return engine.evaluate(batch).nats; })};
    answers = fill_by_engine(engine, candidates, blanks, tokenizer);
  });
  return answers;
}

template <class M>
void evaluate(const Options& options, const nlohmann::json& summary) {
  const examples::RunFolder run{options.run};
  const golem::Tokenizer tokenizer = golem::Tokenizer::load(run.tokenizer());
  const examples::HeldOut held_out(options.held_out, tokenizer);
  std::vector<std::string> held_out_texts, training_texts;
  for (golem::Document& document : golem::read_documents(options.held_out)) held_out_texts.push_back(std::move(document.text));
  for (golem::Document& document : golem::read_documents(options.corpus)) training_texts.push_back(std::move(document.text));
  const std::vector<golem::Blank> blanks = golem::choose_blanks(held_out_texts, options.blanks, 1234);
  golem::World alone;
  examples::Device device = examples::make_device(alone, options.threads);

  std::vector<std::vector<std::int32_t>> training_tokens;
  for (const std::string& text : training_texts) training_tokens.push_back(tokenizer.encode(text));
  const golem::Trigram trigram(M::config.vocab, tokenizer.special().eos, training_tokens);
  double ngram_bits = 0, bytes = 0;
  for (std::size_t i = 0; i < held_out.documents.size(); ++i) ngram_bits += trigram.bits(held_out.documents[i]), bytes += static_cast<double>(held_out.bytes[i]);
  const Candidates candidates(training_texts, tokenizer);
  const Answers by_trigram = fill_by_trigram(trigram, candidates, blanks, tokenizer);

  const bool is_measured = summary.value("held_out", std::string()) == held_out.digest();  // by pretrain, on this text
  Measured full_bits, int8_bits, int4_bits;
  if (is_measured && summary.contains("bpb")) full_bits = {summary.value("steps", std::int64_t{-1}), summary.value("bpb", 0.0), summary.value("precision", std::string())};
  const Filled full = measure<M>("full", options.run, candidates, blanks, held_out, tokenizer, device, full_bits);
  const Filled int8 = measure<M>("int8", options.int8.empty() ? options.run : options.int8, candidates, blanks, held_out, tokenizer, device, int8_bits);
  const Filled int4 = measure<M>("int4", options.int4.empty() ? options.run : options.int4, candidates, blanks, held_out, tokenizer, device, int4_bits);

  std::fprintf(stderr, "\nten of %zu blanks in held-out sentences\n", blanks.size());
  for (std::size_t i = 0; i < std::min(options.show, blanks.size()); ++i) {  // from both ends: English first, Chinese last
    const std::size_t k = i % 2 ? blanks.size() - 1 - i / 2 : i / 2;
    std::fprintf(stderr, "  %s[____]%s\n      answer: %s   truth: %s   %s\n", blanks[k].before.c_str(), blanks[k].after.c_str(), full.free.texts[k].c_str(), blanks[k].answer.c_str(),
                 golem::exact_match(full.free.texts[k], blanks[k].answer) ? "right" : "wrong");
  }
  std::fprintf(stderr, "\n                        full    int8    int4    trigram\n");
  std::fprintf(stderr, "bits per byte          %6.4f  %6.4f  %6.4f  %6.4f\n", full_bits.bits_per_byte, int8_bits.bits_per_byte, int4_bits.bits_per_byte, ngram_bits / bytes);
  if (full_bits.precision != int8_bits.precision)
    std::fprintf(stderr, "  (full: in %s, as pretrain measured it; the others, and all blanks, over %s)\n", full_bits.precision.c_str(), int8_bits.precision.c_str());
  std::fprintf(stderr, "blanks right           %6d  %6d  %6d       -   of %zu\n", full.free.right, int8.free.right, int4.free.right, blanks.size());
  std::fprintf(stderr, "candidates alone       %6d  %6d  %6d  %6d\n\n", full.chosen.right, int8.chosen.right, int4.chosen.right, by_trigram.right);

  nlohmann::ordered_json line{{"job", options.job}, {examples::device_key, examples::name_of(device)}, {"threads", examples::threads_of(device)}};
  for (const char* field : {"params", "vocab", "tokens", "tokens_per_s"}) line[field] = summary.value(field, nlohmann::json());
  line["bpb_start"] = is_measured ? summary.value("bpb_start", nlohmann::json()) : nlohmann::json();
  line["bpb"] = full_bits.bits_per_byte;
  line["bpb_precision"] = full_bits.precision;
  line["bpb_ngram"] = ngram_bits / bytes;
  line["bpb_int8"] = int8_bits.bits_per_byte;
  line["bpb_int4"] = int4_bits.bits_per_byte;
  line["blanks"] = blanks.size();
  line["right"] = full.free.right;
  line["right_int8"] = int8.free.right;
  line["right_int4"] = int4.free.right;
  line["right_chosen"] = full.chosen.right;
  line["right_chosen_int8"] = int8.chosen.right;
  line["right_chosen_int4"] = int4.chosen.right;
  line["right_ngram"] = by_trigram.right;
  line["seconds"] = options.started > 0 ? now() - options.started : 0;
  std::printf("%s\n", line.dump().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Measures a run on held-out text: bits per byte and blanks, in full precision, INT8 and INT4, beside a trigram model.");
  app.add_option("--run", options.run, "the run's folder, as pretrain left it")->capture_default_str();
  app.add_option("--corpus", options.corpus, "the text that it learnt from, for the trigram model, and for the words and phrases that may be chosen")->required();
  app.add_option("--held-out", options.held_out, "text that it has not seen")->required();
  app.add_option("--int8", options.int8, "a checkpoint that quantize made with 8 bits; without it the run's own is quantised here");
  app.add_option("--int4", options.int4, "one with 4 bits in groups of 32");
  app.add_option("--blanks", options.blanks, "of each language")->capture_default_str();
  app.add_option("--show", options.show, "blanks shown with text, free answer and truth")->capture_default_str();
  examples::add_threads_option(app, options.threads, "0: all");
  app.add_option("--job", options.job, "the name in the JSON line")->capture_default_str();
  app.add_option("--started", options.started, "Unix time that the JSON line's seconds count from");
  CLI11_PARSE(app, argc, argv);
  try {
    examples::require_device("evaluate");
    if (options.started == 0) options.started = now();
    const nlohmann::json summary = examples::read_summary({options.run});
    examples::with_model(summary.value("model", std::string()), [&]<class M>() { evaluate<M>(options, summary); });
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", examples::program_name("evaluate").c_str(), error.what());
    return 1;
  }
}
