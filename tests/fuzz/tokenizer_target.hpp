// The fuzzed paths to SentencePiece: any bytes as a model give a golem::Error, or a tokenizer of either kind whose tokens are its own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/icetk_like.hpp"
#include "fuzz/targets.hpp"
#include "golem/data/tokenizer.hpp"
#include "golem/data/tokenizer_any.hpp"
#include "golem/data/tokenizer_icetk.hpp"

namespace fuzz {

/// Sound models: golem's own, and one laid out as icetk's.
inline std::vector<std::string> tokenizer_models() {
  const std::vector<std::string> texts(20, "the model fills a blank in the text, and the text goes on \xe4\xb8\xad\xe6\x96\x87\n");
  return {golem::Tokenizer::train(texts, {.vocab = 285}).bytes(), icetk_like::train()};
}

/// Loaded by `load`, a model gives ids from `first` on, below its size, and takes any of them back.
template <class Load>
void load_and_encode(Load load, const std::string& path, std::int32_t first) {
  try {
    const auto tokenizer = load(path);
    for (const char* text : {"", "a blank \n", "\xe4\xb8\xad\xe6\x96\x87 <n> x"}) {
      const std::vector<std::int32_t> tokens = tokenizer.encode(text);
      for (const std::int32_t token : tokens) promise(token >= first && token < tokenizer.size());
      tokenizer.decode(tokens);
    }
    tokenizer.decode(std::vector<std::int32_t>{-1, 0, 4, first, first + 7, 150001, tokenizer.size()});
  } catch (const golem::Error&) {  // the answer to damaged files
  }
}

inline void tokenizer(Input input) {
  const MemoryFile file(input);
  load_and_encode(golem::Tokenizer::load, file.path(), 0);
  load_and_encode(golem::IceTokenizer::load, file.path(), golem::IceTokenizer::first_piece);
  load_and_encode(golem::AnyTokenizer::load, file.path(), 0);
}

/// Any text through a model that is sound.
inline void tokenized_text(const golem::Tokenizer& tokenizer, Input input) {
  try {
    const std::string text(text_of(input));
    promise(tokenizer.decode(tokenizer.encode(text)) == text);
  } catch (const golem::Error&) {
  }
}

}  // namespace fuzz
