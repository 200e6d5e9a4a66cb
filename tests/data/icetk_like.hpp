// A SentencePiece model laid out as icetk's, which is not golem's to give: trained in the tests that need one, on a few made-up lines.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sentencepiece_trainer.h>

#include <cstddef>
#include <string>
#include <unordered_map>
#include <vector>

#include "golem/core/error.hpp"

namespace icetk_like {

/// 400 lines of words in two languages, always the same.
inline std::vector<std::string> lines() {
  const char* words[]{"system", "package", "install", "the", "of", "kernel", "network", "file", "软件包", "系统", "安装", "hello", "world", "abc", "hi", "icetk"};
  std::vector<std::string> lines;
  unsigned state = 1;
  for (int line = 0; line < 400; ++line) {
    lines.emplace_back();
    for (int word = 0; word < 9; ++word) {
      state = state * 1664525u + 1013904223u;
      lines.back() += words[state >> 28];
      lines.back() += word % 3 ? " " : word % 2 ? ", " : "? ";
    }
  }
  return lines;
}

/// Five special pieces, NFKC, a space before each text, runs of white space as one. `pieces` without <n> are no icetk's.
inline std::string train(const char* pieces = "<n>") {
  struct Lines : sentencepiece::SentenceIterator {
    std::vector<std::string> lines = icetk_like::lines();
    std::size_t at = 0;
    bool done() const override { return at >= lines.size(); }
    void Next() override { ++at; }
    const std::string& value() const override { return lines[at]; }
    sentencepiece::util::Status status() const override { return {}; }
  } iterator;
  const std::unordered_map<std::string, std::string> options{{"model_type", "unigram"}, {"vocab_size", "90"}, {"unk_id", "0"}, {"bos_id", "1"}, {"eos_id", "2"}, {"pad_id", "3"},
                                                             {"user_defined_symbols", pieces}, {"hard_vocab_limit", "false"}, {"minloglevel", "2"}, {"num_threads", "1"}};
  std::string model;
  golem::require(sentencepiece::SentencePieceTrainer::Train(options, &iterator, &model).ok(), "no model laid out as icetk's could be trained");
  return model;
}

}  // namespace icetk_like
