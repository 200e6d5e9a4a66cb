// What pretrain makes of a folder of text: a tokenizer, and rows for training and validation.
// SPDX-License-Identifier: Apache-2.0
#pragma once

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
#include "golem/data/blank_recipe.hpp"
#include "golem/data/corpus.hpp"
#include "golem/data/documents.hpp"
#include "golem/data/tokenizer.hpp"
#include "pretrain_options.hpp"
#include "run_folder.hpp"

namespace examples {

// Tells what is being done, again and again: other ranks wait, and a rank that is not heard of counts as stuck.
using Note = golem::function_ref<void(std::string_view)>;

// The tokenizer of the run: given, kept from before, or trained on the corpus.
inline golem::Tokenizer make_tokenizer(const PretrainOptions& options, const RunFolder& run, int vocab, Note note) {
  if (!options.resume.empty()) return golem::Tokenizer::load(run.tokenizer());
  std::optional<golem::Tokenizer> tokenizer;
  if (!options.tokenizer.empty()) {
    tokenizer = golem::Tokenizer::load(options.tokenizer);
  } else {
    std::fprintf(stderr, "training a tokenizer of %d pieces\n", vocab);
    std::vector<std::string> texts;
    for (golem::Document& document : golem::read_documents(options.corpus)) texts.push_back(std::move(document.text));
    note("training a tokenizer");
    tokenizer = golem::Tokenizer::train(texts, {.vocab = vocab});
  }
  golem::require(tokenizer->size() <= vocab, "the tokenizer has ", tokenizer->size(), " pieces, and the model '", options.model, "' a vocabulary of ", vocab,
                 ": train another tokenizer, or choose another model");
  golem::corpus::write_file(run.tokenizer(), tokenizer->bytes().data(), tokenizer->bytes().size());
  return std::move(*tokenizer);
}

// Rows for training and validation: from the held-out text where there is some, else from the end of the corpus.
inline void build_corpora(const PretrainOptions& options, const RunFolder& run, const golem::Tokenizer& tokenizer, const golem::BlankRecipe& recipe, Note note) {
  golem::CorpusBuilder training(recipe.row, tokenizer.size(), tokenizer.digest()), validation(recipe.row, tokenizer.size(), tokenizer.digest());
  const auto add = [&](golem::CorpusBuilder& rows, const std::string& path) {
    for (const golem::Document& document : golem::read_documents(path)) {
      note("cutting the text in rows");
      rows.add(tokenizer.encode(document.text), tokenizer.special().eos);
    }
  };
  add(training, options.corpus);
  if (options.held_out.empty()) {
    training.move_tail(validation, 0.02);
  } else {
    add(validation, options.held_out);
  }
  training.write(run.training_rows());
  validation.write(run.validation_rows());
}

// What ranks must find alike on their disks: the tokenizer, and of either corpus its size and up to a thousand rows from all over it.
inline std::string describe_data(const golem::Tokenizer& tokenizer, const golem::Corpus& training, const golem::Corpus& validation) {
  std::string out = "tokenizer " + tokenizer.digest();
  for (const golem::Corpus* corpus : {&training, &validation}) {
    golem::Sha256 digest;
    for (std::int64_t i = 0, shown = std::min<std::int64_t>(corpus->rows(), 1000); i < shown; ++i) {
      const auto row = corpus->row(i * (corpus->rows() - 1) / std::max<std::int64_t>(1, shown - 1));
      digest.update(row.data(), row.size_bytes());
    }
    out += golem::sentence(corpus == &training ? ", training" : ", validation", " rows ", corpus->rows(), " of digest ", digest.hex());
  }
  return out;
}

}  // namespace examples
