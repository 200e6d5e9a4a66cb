// The options of glm130b_generate: those of the original program by their own names (spec 6.3), and golem's.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "device.hpp"
#include "golem/core/error.hpp"
#include "golem/infer/beam_search.hpp"
#include "golem/infer/sampling.hpp"

namespace examples {

struct GenerateOptions {
  std::string model = "glm_130b", checkpoint, tokenizer, precision = "fp16", products = "original", text, rules = "original";
  int tp = 0, threads = 0;
  double deadline = 600;
  // The original's; its own defaults, as its script sets them.
  std::string input = "interactive", output, mode = "inference", strategy = "BaseStrategy";
  int out_length = 256, min_length = 0, bits = 0;
  std::uint64_t seed = 1234;
  double offload_limit = 20;
  bool with_id = false, all_beams = false, deterministic = false, stored = false, sequential = false, offloads = false;
  golem::Sampling sampling{.top_p = 0.7f};
  golem::BeamSearchOptions search{.no_repeat_ngram = 3};

  bool searches() const { return strategy == "BeamSearchStrategy"; }
  int sequences() const { return searches() ? search.beams : 1; }
  bool interactive() const { return text.empty() && input == "interactive"; }
};

inline void add_options(CLI::App& app, GenerateOptions& o) {
  app.add_option("--model", o.model, "glm_130b, or tiny: its small sibling, which glm130b_train --model tiny makes")->capture_default_str();
  app.add_option("--checkpoint", o.checkpoint, "folder of the weights: a released checkpoint, or one of golem's, or a run with one")->required();
  app.add_option("--tokenizer", o.tokenizer, "the SentencePiece model: icetk's ice_text.model, or one of golem's; by default tokenizer.model in the folder of the weights");
  app.add_option("--precision", o.precision, "fp16, int8 or int4; weights that are stored in fp16 are quantised as they are read")->capture_default_str();
  app.add_option("--tp", o.tp, "ranks that share each layer: 1, 2, 4 or 8; threads, or the processes that a launcher started; 0: those, or 1")->capture_default_str()->check(CLI::NonNegativeNumber);
  add_threads_option(app, o.threads, "of each rank; 0: its share of the machine, or OMP_NUM_THREADS");
  app.add_option("--deadline", o.deadline, "seconds that a rank may work at one thing, or all ranks wait, before the run counts as stalled; 0: for ever")->capture_default_str();
  app.add_option("--products", o.products, "of int8 and int4 weights; original: each matrix becomes fp16 before its product, as GLM-130B's; golem: weights meet activations as they are stored, which moves a fraction of the memory and rounds less")->capture_default_str();
  app.add_option("--sampling-rules", o.rules, "original: logits and top-p in fp16, and any id may come, as GLM-130B's; golem: in full precision, top-k 1 takes the first of equals, and ids that no text has never come, nor from beams")->capture_default_str();
  app.add_option("--text", o.text, "one text, instead of --input-source");
  auto* original = app.add_option_group("the original's", "options of GLM-130B's generate.py, as its script sets them");
  original->add_option("--input-source", o.input, "a file of texts, a line each; or interactive")->capture_default_str();
  original->add_option("--output-path", o.output, "a folder that gets a file of answers for each text; made where there is none");
  original->add_option("--out-seq-length", o.out_length, "tokens of a text with its answer")->capture_default_str()->check(CLI::Range(4, 2048));
  original->add_option("--min-gen-length", o.min_length, "tokens of an answer, at least")->capture_default_str()->check(CLI::NonNegativeNumber);
  original->add_option("--sampling-strategy", o.strategy, "BaseStrategy: sampling; BeamSearchStrategy: search with beams")->capture_default_str();
  original->add_option("--num-beams", o.search.beams, "of the search")->capture_default_str()->check(CLI::PositiveNumber);
  original->add_option("--length-penalty", o.search.length_penalty, "above 0: longer answers are better")->capture_default_str();
  original->add_option("--no-repeat-ngram-size", o.search.no_repeat_ngram, "no run of so many tokens twice in an answer; 0: runs may come again")->capture_default_str();
  original->add_flag("--print-all-beams", o.all_beams, "all answers, not the best alone");
  original->add_flag("--deterministic", o.deterministic, "beams take the best candidates instead of drawing them, as in the original's evaluation");
  original->add_option("--top-k,--top_k", o.sampling.top_k, "tokens drawn from; 1: greedy, 0: all")->capture_default_str()->check(CLI::NonNegativeNumber);
  original->add_option("--top-p,--top_p", o.sampling.top_p, "probability that the tokens drawn from have together; 0: all")->capture_default_str()->check(CLI::Range(0.0, 1.0));
  original->add_option("--temperature", o.sampling.temperature, "of sampling")->capture_default_str()->check(CLI::PositiveNumber);
  original->add_option("--seed", o.seed, "of sampling, and of beams that draw")->capture_default_str();
  original->add_flag("--with-id", o.with_id, "a line is an id, a tab and a text; the answers' file is named by the id");
  original->add_option("--mode", o.mode, "inference")->capture_default_str();
  original->add_option("--quantization-bit-width", o.bits, "8 or 4: what --precision int8 or int4 says");
  original->add_flag("--from-quantized-checkpoint", o.stored, "the weights must be stored quantised");
  original->add_flag("--sequential-initialization", o.sequential, "ranks read their weights one after the other");
  original->add_flag("--bminf", o.offloads, "weights that wait in the host's memory: not in golem");
  original->add_option("--bminf-memory-limit", o.offload_limit, "of --bminf")->capture_default_str();
}

/// All that the ranks must have in common, but for paths.
inline std::string describe(const GenerateOptions& o) {
  const golem::Sampling& s = o.sampling;
  return golem::sentence(o.model, " in ", o.precision, " with products ", o.products, " or ", o.bits, " bits, tp ", o.tp, ", at most ", o.out_length, " tokens, ", o.strategy, ", top k ", s.top_k, ", top p ", s.top_p, ", temperature ", s.temperature, ", rules ", o.rules,
                         ", at least ", o.min_length, ", seed ", o.seed, ", ", o.search.beams, " beams, length penalty ", o.search.length_penalty, ", runs of ", o.search.no_repeat_ngram,
                         o.deterministic ? ", the best" : ", drawn", o.interactive() ? ", interactive" : "", o.stored ? ", stored quantised" : "", o.sequential ? ", one after the other" : "");
}

/// Throws Error where options contradict each other, or ask for what golem does not do.
inline void check_options(GenerateOptions& o) {
  golem::require(o.mode == "inference", "--mode takes inference, not '", o.mode, "'");
  golem::require(!o.offloads, "golem keeps all weights on the device and has no --bminf: choose --quantization-bit-width 4, or more ranks with --tp");
  golem::require(o.searches() || o.strategy == "BaseStrategy", "--sampling-strategy takes BaseStrategy or BeamSearchStrategy, not '", o.strategy, "'");
  golem::require(o.search.no_repeat_ngram == 0 || o.search.no_repeat_ngram >= 2, "--no-repeat-ngram-size takes 0 or at least 2, not ", o.search.no_repeat_ngram);
  golem::require(o.bits == 0 || o.bits == 4 || o.bits == 8, "--quantization-bit-width takes 8 or 4, not ", o.bits);
  if (o.bits) o.precision = golem::sentence("int", o.bits);
  golem::require(o.products == "original" || o.precision != "fp16", "--products ", o.products, " is for --precision int8 or int4: leave it out for fp16");
  golem::require(!o.stored || o.precision != "fp16", "--from-quantized-checkpoint needs --quantization-bit-width 8 or 4");
  golem::require(!o.with_id || (o.text.empty() && o.input != "interactive"), "--with-id is for a file of texts: name it with --input-source");
  golem::require(o.rules == "original" || o.rules == "golem", "--sampling-rules takes original or golem, not '", o.rules, "'");
  o.sampling.rules = o.rules == "golem" ? golem::SamplingRules::golem : golem::SamplingRules::original;
  o.sampling.max_tokens = o.search.max_tokens = o.out_length;  // the engine's capacity ends an answer before
  o.sampling.min_tokens = o.search.min_tokens = o.min_length, o.sampling.seed = o.search.seed = o.seed;
  o.search.choice = o.deterministic ? golem::BeamSearchOptions::Choice::best : golem::BeamSearchOptions::Choice::sampled;
}

}  // namespace examples
