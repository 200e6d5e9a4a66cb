// What the tests of training data share: special tokens, a corpus of counted tokens, and a hash to compare tokens by.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "golem/config/special_tokens.hpp"
#include "golem/core/digest.hpp"
#include "golem/data/corpus_builder.hpp"
#include "io/files.hpp"

namespace test {

using Tokens = std::vector<std::int32_t>;

inline constexpr golem::SpecialTokens special{.mask = 1, .gmask = 2, .smask = 3, .sop = 4, .eop = 5, .eos = 6, .newline = 7, .pad = 0};

/// A corpus of one document of `tokens` tokens, in rows of `row`; its path.
inline std::string counted_corpus(const Folder& folder, int row, int tokens) {
  golem::CorpusBuilder builder(folder / "train.bin", row, 1000, "digest");
  Tokens document;
  for (int i = 0; i < tokens; ++i) document.push_back(10 + i % 900);
  builder.add(document, special.eos);
  builder.finish();
  return folder / "train.bin";
}

inline std::string hash(const Tokens& values) { return golem::sha256_hex(values.data(), values.size() * sizeof(std::int32_t)).substr(0, 16); }

}  // namespace test
