// The corpus: documents as one long run of tokens, cut in rows of a fixed length, memory-mapped (spec 2.5).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <sstream>
#include <string>
#include <vector>

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

namespace corpus {

/// Writes `<path>.part` to the disk, or removes it again.
inline void stage(const std::string& path, const void* data, std::size_t bytes) {
  const std::string temporary = path + ".part";
  const int file = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  require(file >= 0, "'", temporary, "' cannot be written: ", std::strerror(errno));
  const auto* from = static_cast<const char*>(data);
  int failed = 0;
  for (std::size_t done = 0; done < bytes && !failed;) {
    const ssize_t written = write(file, from + done, bytes - done);
    if (written > 0)
      done += static_cast<std::size_t>(written);
    else if (written == 0 || errno != EINTR)
      failed = written == 0 ? EIO : errno;
  }
  if (!failed && fsync(file) != 0) failed = errno;
  if (close(file) != 0 && !failed) failed = errno;
  if (failed) std::remove(temporary.c_str());
  require(!failed, "'", path, "' cannot be written (", bytes, " bytes): ", std::strerror(failed), "; what was there before is as it was");
}

/// Gives a staged file its name.
inline void publish(const std::string& path) {
  const std::string temporary = path + ".part";
  const bool renamed = std::rename(temporary.c_str(), path.c_str()) == 0;
  const int cause = errno;
  if (!renamed) std::remove(temporary.c_str());
  require(renamed, "'", temporary, "' cannot be renamed to '", path, "': ", std::strerror(cause));
  const auto slash = path.find_last_of('/');
  const int folder = open(slash == path.npos ? "." : path.substr(0, slash + 1).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  require(folder >= 0, "the folder of '", path, "' cannot be synced: ", std::strerror(errno));
  const bool synced = fsync(folder) == 0 || errno == EINVAL;  // EINVAL: a file system that has no such thing
  const int sync_cause = errno;
  close(folder);
  require(synced, "the folder of '", path, "' cannot be synced: ", std::strerror(sync_cause));
}

/// Writes a file whole or not at all.
inline void write_file(const std::string& path, const void* data, std::size_t bytes) {
  stage(path, data, bytes);
  publish(path);
}

}  // namespace corpus

/// Gathers documents and writes them as rows: `path` (little-endian int32, nothing else, as the original's) and its header.
class CorpusBuilder {
 public:
  CorpusBuilder(std::int64_t row, std::int64_t vocab, std::string tokenizer) : header_{row, 0, vocab, std::move(tokenizer)} {
    require(row >= 2, "a corpus with rows of ", row, " tokens was asked for: at least 2");
  }

  /// Adds the tokens of a document, and `eos` behind them.
  void add(std::span<const std::int32_t> tokens, std::int32_t eos) {
    const auto check = [&](std::int32_t token) {
      require(token >= 0 && token < header_.vocab, "token ", token, " does not belong in a corpus with a vocabulary of ", header_.vocab);
    };
    for (const std::int32_t token : tokens) check(token);
    check(eos);
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    tokens_.push_back(eos);
  }

  /// Gives the last `part` of the rows, at least one, to `other`.
  void move_tail(CorpusBuilder& other, double part) {
    const std::int64_t rows = tokens() / header_.row,
                       moved = static_cast<double>(rows) * part < 1 ? 1 : static_cast<std::int64_t>(static_cast<double>(rows) * part);
    require(rows >= 2, "a corpus of ", tokens(), " tokens cannot be split: its rows have ", header_.row,
            "; give more text, or a model with a shorter context");
    const auto begin = tokens_.begin() + static_cast<std::ptrdiff_t>((rows - moved) * header_.row);
    other.tokens_.insert(other.tokens_.end(), begin, tokens_.end());
    tokens_.erase(begin, tokens_.end());
  }

  std::int64_t tokens() const { return static_cast<std::int64_t>(tokens_.size()); }

  /// Writes all whole rows; the tokens behind the last one are left out.
  CorpusHeader write(const std::string& path) {
    header_.rows = tokens() / header_.row;
    require(header_.rows > 0, "a corpus of ", tokens(), " tokens does not fill one row of ", header_.row,
            ": give more text, or a model with a shorter context");
    const std::string header = path + ".header";
    const std::string text =
        sentence("golem corpus 1\nrow ", header_.row, "\nrows ", header_.rows, "\nvocab ", header_.vocab, "\ntokenizer ", header_.tokenizer, "\n");
    corpus::stage(path, tokens_.data(), static_cast<std::size_t>(header_.rows * header_.row) * sizeof(std::int32_t));
    try {
      corpus::stage(header, text.data(), text.size());
    } catch (const Error&) {
      std::remove((path + ".part").c_str());
      throw;
    }
    // No header stands beside the rows of another corpus, whenever the program may die.
    require(std::remove(header.c_str()) == 0 || errno == ENOENT, "'", header, "' cannot be replaced: ", std::strerror(errno));
    corpus::publish(path);
    corpus::publish(header);
    return header_;
  }

 private:
  CorpusHeader header_;
  std::vector<std::int32_t> tokens_;
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

  /// The tokens of row i, each proved to be in the vocabulary.
  std::span<const std::int32_t> row(std::int64_t i) const {
    require(i >= 0 && i < header_.rows, "row ", i, " was asked of the corpus '", path_, "', which has ", header_.rows);
    const std::span<const std::int32_t> tokens{reinterpret_cast<const std::int32_t*>(file_.data()) + i * header_.row,
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
