// What pretrain makes of a folder of text: a tokenizer, and rows for training and validation.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "golem/data/blank_recipe.hpp"
#include "golem/data/corpus.hpp"
#include "golem/data/documents.hpp"
#include "golem/data/tokenizer.hpp"
#include "pretrain_options.hpp"
#include "run_folder.hpp"

namespace examples {

// The tokenizer of the run: given, kept from before, or trained on the corpus.
inline golem::Tokenizer make_tokenizer(const PretrainOptions& options, const RunFolder& run, int vocab) {
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
inline void build_corpora(const PretrainOptions& options, const RunFolder& run, const golem::Tokenizer& tokenizer, const golem::BlankRecipe& recipe) {
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

}  // namespace examples
