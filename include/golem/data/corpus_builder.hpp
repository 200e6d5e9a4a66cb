// CorpusBuilder: documents cut in rows that go to the disk as they come, and appear there whole or not at all (spec 2.5).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/mapped_file.hpp"
#include "golem/core/output_file.hpp"
#include "golem/data/corpus.hpp"

namespace golem {

/// Writes documents as rows: `path` (little-endian int32, nothing else, as the original's) and its header. It holds a few MiB, however
/// long the corpus. Until finish() or split() there is nothing under `path`, or what was there before.
class CorpusBuilder {
 public:
  /// `row`: tokens of a row; `tokenizer`: its digest.
  CorpusBuilder(std::string path, std::int64_t row, std::int64_t vocab, std::string tokenizer, FileStep step = {})
      : path_(std::move(path)), header_(header_of(row, vocab, std::move(tokenizer))), step_(step), file_(partial(path_), 0, step_) {}
  ~CorpusBuilder() {
    if (finished_) return;
    for (const std::string& path : {path_, header_path()}) ::unlink(partial(path).c_str());
  }
  CorpusBuilder(const CorpusBuilder&) = delete;
  CorpusBuilder& operator=(const CorpusBuilder&) = delete;

  /// Adds the tokens of a document, and `eos` behind them.
  void add(std::span<const std::int32_t> tokens, std::int32_t eos) {
    require(!finished_, "the corpus '", path_, "' is finished: nothing can be added to it");
    for (const std::int32_t token : tokens) check(token);
    check(eos);
    waiting_.insert(waiting_.end(), tokens.begin(), tokens.end());
    waiting_.push_back(eos);
    tokens_ += static_cast<std::int64_t>(tokens.size()) + 1;
    if (waiting_.size() >= most_waiting) flush();
  }

  std::int64_t tokens() const { return tokens_; }

  /// All whole rows appear under `path`; the tokens behind the last one are left out.
  CorpusHeader finish() {
    if (!finished_) complete(rows());
    return header_;
  }

  /// The same, but the last `part` of the rows, at least one, appear under `tail`.
  CorpusHeader split(const std::string& tail, double part) {
    const std::int64_t all = rows(), moved = static_cast<std::int64_t>(static_cast<double>(all) * part), kept = all - (moved < 1 ? 1 : moved);
    require(all >= 2 && kept >= 1, "a corpus of ", tokens_, " tokens cannot be split: its rows have ", header_.row, "; give more text, or a model with a shorter context");
    flush();
    CorpusBuilder last(tail, header_.row, header_.vocab, header_.tokenizer, step_);
    last.tokens_ = (all - kept) * header_.row;
    const MappedFile written(partial(path_));
    last.file_.write(written.data() + bytes_of(kept), bytes_of(all) - bytes_of(kept));
    last.finish();
    complete(kept);
    return header_;
  }

 private:
  static constexpr std::size_t most_waiting = std::size_t{1} << 20;

  static CorpusHeader header_of(std::int64_t row, std::int64_t vocab, std::string tokenizer) {
    require(row >= 2, "a corpus with rows of ", row, " tokens was asked for: at least 2");
    return {row, 0, vocab, std::move(tokenizer)};
  }
  static std::string partial(const std::string& path) { return path + ".partial"; }

  void check(std::int32_t token) const {
    require(token >= 0 && token < header_.vocab, "token ", token, " does not belong in a corpus with a vocabulary of ", header_.vocab);
  }
  std::int64_t rows() const { return tokens_ / header_.row; }
  std::size_t bytes_of(std::int64_t rows) const { return static_cast<std::size_t>(rows * header_.row) * sizeof(std::int32_t); }
  std::string header_path() const { return path_ + ".header"; }

  void flush() {
    file_.write(waiting_.data(), waiting_.size() * sizeof(std::int32_t));
    waiting_.clear();
  }

  /// The first `count` rows are the corpus.
  void complete(std::int64_t count) {
    require(count > 0, "a corpus of ", tokens_, " tokens does not fill one row of ", header_.row, ": give more text, or a model with a shorter context");
    flush();
    header_.rows = count;
    file_.finish();
    if (file_.size() > bytes_of(count)) OutputFile(partial(path_), bytes_of(count), step_).finish();
    OutputFile header(partial(header_path()), step_);
    header.write(sentence("golem corpus 1\nrow ", header_.row, "\nrows ", header_.rows, "\nvocab ", header_.vocab, "\ntokenizer ", header_.tokenizer, "\n"));
    header.finish();
    // No header stands beside the rows of another corpus, whenever the program may die.
    if (::access(header_path().c_str(), F_OK) == 0) files::remove(header_path(), step_);
    files::rename(partial(path_), path_, step_);
    files::rename(partial(header_path()), header_path(), step_);
    files::sync_folder(files::parent_of(path_), step_);
    finished_ = true;
  }

  std::string path_;
  CorpusHeader header_;
  FileStep step_;
  OutputFile file_;
  std::vector<std::int32_t> waiting_;
  std::int64_t tokens_ = 0;
  bool finished_ = false;
};

}  // namespace golem
