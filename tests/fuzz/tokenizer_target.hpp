// The fuzzed path to SentencePiece: any bytes as a model give a golem::Error, or a tokenizer whose tokens are its own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "fuzz/targets.hpp"
#include "golem/data/tokenizer.hpp"

namespace fuzz {

inline void tokenizer(Input input) {
  const MemoryFile file(input);
  try {
    const golem::Tokenizer tokenizer = golem::Tokenizer::load(file.path());
    for (const char* text : {"", "a blank \n", "\xe4\xb8\xad\xe6\x96\x87 <n> x"})
      for (const std::int32_t token : tokenizer.encode(text)) promise(token >= 0 && token < tokenizer.size());
  } catch (const golem::Error&) {
  }
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
