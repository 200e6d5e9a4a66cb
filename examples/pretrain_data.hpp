// What pretrain makes of a folder of text: a tokenizer, and rows for training and validation.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/core/digest.hpp"
#include "golem/core/function_ref.hpp"
#include "golem/core/output_file.hpp"
#include "golem/data/blank_recipe.hpp"
#include "golem/data/corpus.hpp"
#include "golem/data/corpus_builder.hpp"
#include "golem/data/documents.hpp"
#include "golem/data/instruction_set.hpp"
#include "golem/data/loader.hpp"
#include "golem/data/tokenizer.hpp"
#include "golem/data/tokenizer_any.hpp"
#include "golem/data/training_lines.hpp"
#include "golem/io/checkpoint_state.hpp"
#include "golem/io/jsonl.hpp"
#include "pretrain_options.hpp"
#include "run_folder.hpp"

namespace examples {

// Tells what is being done, again and again: other ranks wait, and a rank that is not heard of counts as stuck.
using Note = golem::function_ref<void(std::string_view)>;

// The tokenizer of the run: given, kept from before, or trained on the corpus.
inline golem::AnyTokenizer make_tokenizer(const PretrainOptions& options, const RunFolder& run, int vocab, Note note) {
  if (!options.resume.empty()) return golem::AnyTokenizer::load(run.tokenizer());
  std::optional<golem::AnyTokenizer> tokenizer;
  if (!options.tokenizer.empty()) {
    tokenizer.emplace(golem::AnyTokenizer::load(options.tokenizer));
  } else {
    std::fprintf(stderr, "training a tokenizer of %d pieces\n", vocab);
    const golem::TokenizerTraining training{.vocab = vocab, .or_fewer = true};
    golem::TrainingLines lines(golem::document_bytes(options.corpus), training.most_bytes);
    golem::visit_documents(options.corpus, [&](golem::Document& document) {
      note("reading text for a tokenizer");
      lines.add(document.text);
    });
    note("training a tokenizer");
    tokenizer.emplace(golem::Tokenizer::train(std::move(lines), training));
    if (tokenizer->size() < vocab) std::fprintf(stderr, "training a tokenizer: the text gave %d pieces, and the others of the vocabulary stay unused\n", tokenizer->size());
  }
  golem::require(tokenizer->size() <= vocab, "the tokenizer has ", tokenizer->size(), " pieces, and the model '", options.model, "' a vocabulary of ", vocab,
                 ": train another tokenizer, or choose another model");
  golem::replace_file(run.tokenizer(), tokenizer->bytes());
  return std::move(*tokenizer);
}

// Rows for training and validation: from the held-out text where there is some, else from the end of the corpus. In the
// original's order all rows are in one file, and a split by their numbers says which are held out.
inline void build_corpora(const PretrainOptions& options, const RunFolder& run, const golem::AnyTokenizer& tokenizer, const golem::BlankRecipe& recipe, Note note) {
  golem::CorpusBuilder training(run.training_rows(), recipe.row, tokenizer.size(), tokenizer.digest());
  const auto add = [&](golem::CorpusBuilder& rows, const std::string& path) {
    golem::visit_documents(path, [&](golem::Document& document) {
      note("cutting the text in rows");
      rows.add(tokenizer.encode(document.text), tokenizer.special().eos);
    });
  };
  add(training, options.corpus);
  if (row_order(options.order) == golem::RowOrder::glm_130b) {
    training.finish();
    for (const char* file : {"", ".header"}) std::remove((run.validation_rows() + file).c_str());  // another run's
  } else if (options.held_out.empty()) {
    training.split(run.validation_rows(), 0.02);
  } else {
    golem::CorpusBuilder validation(run.validation_rows(), recipe.row, tokenizer.size(), tokenizer.digest());
    add(validation, options.held_out);
    training.finish();
    validation.finish();
  }
}

inline bool exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

// An integer of a saved run; `otherwise` where there is none of that name.
inline std::int64_t saved_number(const golem::CheckpointState& saved, const char* name, std::int64_t otherwise) {
  const auto found = saved.integers.find(name);
  return found == saved.integers.end() ? otherwise : found->second;
}

// The instructions that a run was saved with, in pairs.
struct SavedInstructions {
  std::int64_t pairs = 0, former_pairs = 0;

  explicit SavedInstructions(const golem::CheckpointState& saved) : pairs(saved_number(saved, "loader.instructions", 0)), former_pairs(saved_number(saved, "loader.former_instructions", 0)) {}
};

// The instructions of the run as tokens: made where some are given and the run has none yet.
inline void build_instructions(const PretrainOptions& options, const RunFolder& run, const SavedInstructions& saved, const golem::AnyTokenizer& tokenizer, Note note) {
  const auto build = [&](const std::string& from, const std::string& to, std::int64_t had) {
    if (options.resume.empty()) std::remove(to.c_str());  // another run's
    if (from.empty() || (had > 0 && exists(to))) return;
    golem::InstructionBuilder builder(tokenizer.size(), tokenizer.digest());
    golem::read_pairs(from, [&](std::string_view text, std::string_view target) {
      if (builder.pairs() % 1000 == 0) note("cutting the instructions in tokens");
      builder.add(tokenizer.encode(text), tokenizer.encode(target));
      return true;
    });
    golem::require(builder.pairs() > 0, "'", from, "' holds no line of {\"text\": ..., \"target\": ...}: give at least one");
    builder.write(to);
  };
  build(options.instructions, run.instructions(), saved.pairs);
  build(options.former_instructions, run.former_instructions(), saved.former_pairs);
}

// All rows that a run reads.
struct RunData {
  golem::Corpus training;
  std::optional<golem::Corpus> validation;
  std::optional<golem::InstructionSet> instructions, former;
  golem::Words words;  // whose borders blanks keep to, where asked for

  // Instructions that neither this call nor the checkpoint speaks of are a former call's, and stay where they are.
  RunData(const PretrainOptions& options, const RunFolder& run, const SavedInstructions& saved, const golem::AnyTokenizer& tokenizer)
      : training(run.training_rows()), words(options.whole_words ? tokenizer.words() : golem::Words()) {
    if (exists(run.validation_rows())) validation.emplace(run.validation_rows());
    if ((saved.pairs > 0 || !options.instructions.empty()) && exists(run.instructions())) instructions.emplace(run.instructions());
    if ((saved.former_pairs > 0 || !options.former_instructions.empty()) && exists(run.former_instructions())) former.emplace(run.former_instructions());
  }

  golem::LoaderOptions loading(const PretrainOptions& options, const golem::BatchSize& batch, int rank, int ranks) const {
    return {.seed = options.seed, .rank = rank, .ranks = ranks, .order = row_order(options.order), .instructions = instructions ? &*instructions : nullptr,
            .former = former ? &*former : nullptr, .mix = instruction_mix(options, batch), .words = words};
  }

  // The rows that are held out, in an order that is always the same.
  golem::Loader validating(const PretrainOptions& options, const golem::BlankRecipe& recipe, const golem::SpecialTokens& special) const {
    const bool is_split = row_order(options.order) == golem::RowOrder::glm_130b;
    golem::require(is_split || validation, "the run has no rows for validation: it was begun with --order original; go on with that");
    return {is_split ? training : *validation, recipe, special,
            {.order = is_split ? golem::RowOrder::glm_130b : golem::RowOrder::stored, .part = golem::Glm130bRows::Part::validation, .words = words}};
  }
};

// What ranks must find alike on their disks: the tokenizer, and of each file its size and up to a thousand rows from all over it.
inline std::string describe_data(const golem::AnyTokenizer& tokenizer, const RunData& data) {
  std::string out = "tokenizer " + tokenizer.digest();
  for (const golem::Corpus* corpus : {&data.training, data.validation ? &*data.validation : nullptr}) {
    if (!corpus) continue;
    golem::Sha256 digest;
    for (std::int64_t i = 0, shown = std::min<std::int64_t>(corpus->rows(), 1000); i < shown; ++i) {
      const auto row = corpus->row(i * (corpus->rows() - 1) / std::max<std::int64_t>(1, shown - 1));
      digest.update(row.data(), row.size_bytes());
    }
    out += golem::sentence(corpus == &data.training ? ", training" : ", validation", " rows ", corpus->rows(), " of digest ", digest.hex());
  }
  for (const auto* set : {&data.instructions, &data.former}) {
    if (!*set) continue;
    golem::Sha256 digest;
    const std::int64_t pairs = (*set)->pairs();
    for (std::int64_t i = 0, shown = std::min<std::int64_t>(pairs, 1000); i < shown; ++i)
      for (const auto part : {(*set)->text(i * (pairs - 1) / std::max<std::int64_t>(1, shown - 1)), (*set)->target(i * (pairs - 1) / std::max<std::int64_t>(1, shown - 1))})
        digest.update(part.data(), part.size_bytes());
    out += golem::sentence(set == &data.former ? ", former" : ",", " instructions ", pairs, " of digest ", digest.hex());
  }
  return out;
}

}  // namespace examples
