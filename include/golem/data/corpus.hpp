// The corpus: documents as one long run of tokens, cut in rows of a fixed length, memory-mapped (spec 2.5).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <sstream>
#include <string>

#include "golem/core/error.hpp"
#include "golem/core/mapped_file.hpp"

namespace golem {

static_assert(std::endian::native == std::endian::little, "golem: corpus files are little-endian, and read in place");

/// What is written beside the rows, as text, in `<path>.header`.
struct CorpusHeader {
  std::int64_t row = 0;  // tokens of a row
  std::int64_t rows = 0;
  std::int64_t vocab = 0;  // every token is below
  std::string tokenizer;   // Tokenizer::digest()
};

/// Rows on disk, mapped. Throws Error where header and file disagree.
class Corpus {
 public:
  explicit Corpus(const std::string& path) : path_(path), header_(read_header(path + ".header")), file_(path) {
    const auto bytes = static_cast<std::uint64_t>(file_.size());
    const std::uint64_t row_bytes = static_cast<std::uint64_t>(header_.row) * sizeof(std::int32_t);
    require(bytes % row_bytes == 0 && bytes / row_bytes == static_cast<std::uint64_t>(header_.rows), "'", path, "' has ", bytes,
            " bytes, and its header speaks of ", header_.rows, " rows of ", header_.row, " tokens: build the corpus again");
  }

  const CorpusHeader& header() const { return header_; }
  std::int64_t rows() const { return header_.rows; }

  /// The tokens of row i, each proved to be in the vocabulary. `further`: as many tokens from further on in the text, which rows cut anywhere;
  /// the last row stays where it is.
  std::span<const std::int32_t> row(std::int64_t i, std::int64_t further = 0) const {
    require(i >= 0 && i < header_.rows, "row ", i, " was asked of the corpus '", path_, "', which has ", header_.rows);
    require(further >= 0 && further < header_.row, "row ", i, " of '", path_, "' was asked for from ", further, " tokens further on: fewer than the ", header_.row, " of a row");
    const std::span<const std::int32_t> tokens{reinterpret_cast<const std::int32_t*>(file_.data()) + i * header_.row + (i + 1 < header_.rows ? further : 0),
                                               static_cast<std::size_t>(header_.row)};
    for (const std::int32_t token : tokens)
      require(token >= 0 && token < header_.vocab, "row ", i, " of '", path_, "' has token ", token, ", and its vocabulary ends at ",
              header_.vocab - 1, ": the file is damaged; build the corpus again");
    return tokens;
  }

 private:
  static CorpusHeader read_header(const std::string& path) {
    const MappedFile file(path);
    std::istringstream text(std::string(reinterpret_cast<const char*>(file.data()), smaller_size(file.size())));
    std::string golem, name, row, rows, vocab, tokenizer;
    std::int64_t version = 0;
    CorpusHeader header;
    text >> golem >> name >> version >> row >> header.row >> rows >> header.rows >> vocab >> header.vocab >> tokenizer >> header.tokenizer;
    require(text && golem == "golem" && name == "corpus" && version == 1 && row == "row" && rows == "rows" && vocab == "vocab" &&
                tokenizer == "tokenizer",
            "'", path, "' is no corpus header: build the corpus again");
    require(header.row >= 2 && header.rows >= 1 && header.vocab >= 2 && header.row < (std::int64_t{1} << 31) && header.rows < (std::int64_t{1} << 40),
            "'", path, "' speaks of ", header.rows, " rows of ", header.row, " tokens: build the corpus again");
    return header;
  }
  static std::size_t smaller_size(std::size_t bytes) { return bytes < 4096 ? bytes : 4096; }

  std::string path_;
  CorpusHeader header_;
  MappedFile file_;
};

}  // namespace golem
