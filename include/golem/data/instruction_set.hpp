// InstructionSet: pairs of a text and what is to follow it, as tokens in one memory-mapped file (spec 2.6).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/mapped_file.hpp"
#include "golem/core/output_file.hpp"

namespace golem {

/// What an instruction file begins with; then come `2 pairs + 1` offsets of 64 bits, text and target in turn, and the
/// tokens of 32 bits that they point into.
struct InstructionHeader {
  std::array<char, 8> magic{'g', 'o', 'l', 'e', 'm', 'i', 'n', '1'};
  std::int64_t pairs = 0;
  std::int64_t vocab = 0;            // every token is below
  std::array<char, 64> tokenizer{};  // Tokenizer::digest()
};

/// Gathers pairs and writes them.
class InstructionBuilder {
 public:
  InstructionBuilder(std::int64_t vocab, const std::string& tokenizer) {
    header_.vocab = vocab;
    require(tokenizer.size() <= header_.tokenizer.size(), "a tokenizer's digest of ", tokenizer.size(), " characters was given: expected at most 64");
    std::memcpy(header_.tokenizer.data(), tokenizer.data(), tokenizer.size());
  }

  void add(std::span<const std::int32_t> text, std::span<const std::int32_t> target) {
    for (const auto& part : {text, target}) {
      for (const std::int32_t token : part)
        require(token >= 0 && token < header_.vocab, "token ", token, " does not belong among instructions with a vocabulary of ", header_.vocab);
      tokens_.insert(tokens_.end(), part.begin(), part.end());
      offsets_.push_back(static_cast<std::int64_t>(tokens_.size()));
    }
    ++header_.pairs;
  }

  std::int64_t pairs() const { return header_.pairs; }

  /// Writes the file whole or not at all. Throws Error where there is no pair.
  void write(const std::string& path) const {
    require(header_.pairs > 0, "'", path, "' was to hold instructions, and none were given: give at least one text with its target");
    place_file(path, [&](OutputFile& file) {
      file.write(&header_, sizeof header_);
      file.write(offsets_.data(), offsets_.size() * sizeof(std::int64_t));
      file.write(tokens_.data(), tokens_.size() * sizeof(std::int32_t));
    });
    files::sync_folder(files::parent_of(path));
  }

 private:
  InstructionHeader header_;
  std::vector<std::int64_t> offsets_{0};
  std::vector<std::int32_t> tokens_;
};

/// Pairs on disk, mapped. Throws Error where the file is none of golem's, or was cut or changed.
class InstructionSet {
 public:
  explicit InstructionSet(const std::string& path) : path_(path), file_(path) {
    require(file_.size() >= sizeof header_, "'", path, "' holds no instructions: it has ", file_.size(), " bytes; make it again");
    std::memcpy(&header_, file_.data(), sizeof header_);
    const auto left = static_cast<std::uint64_t>(file_.size() - sizeof header_);
    require(header_.magic == InstructionHeader{}.magic && header_.vocab > 0 && header_.pairs > 0 &&
                static_cast<std::uint64_t>(header_.pairs) <= (left / sizeof(std::int64_t) - 1) / 2 && left >= 3 * sizeof(std::int64_t),
            "'", path, "' is no file of instructions, or was cut: make it again");
    offsets_ = reinterpret_cast<const std::int64_t*>(file_.data() + sizeof header_);
    const std::uint64_t count = 2 * static_cast<std::uint64_t>(header_.pairs) + 1, bytes = left - count * sizeof(std::int64_t);
    tokens_ = reinterpret_cast<const std::int32_t*>(offsets_ + count);
    require(offsets_[0] == 0 && offsets_[count - 1] >= 0 && bytes % sizeof(std::int32_t) == 0 &&
                static_cast<std::uint64_t>(offsets_[count - 1]) == bytes / sizeof(std::int32_t),
            "'", path, "' has ", file_.size(), " bytes, and its header speaks of ", header_.pairs, " pairs with ", offsets_[count - 1], " tokens: make it again");
  }

  std::int64_t pairs() const { return header_.pairs; }
  std::string tokenizer() const { return {header_.tokenizer.data(), strnlen(header_.tokenizer.data(), header_.tokenizer.size())}; }

  std::span<const std::int32_t> text(std::int64_t pair) const { return part(pair, 0); }
  std::span<const std::int32_t> target(std::int64_t pair) const { return part(pair, 1); }

 private:
  std::span<const std::int32_t> part(std::int64_t pair, int which) const {
    require(pair >= 0 && pair < header_.pairs, "pair ", pair, " was asked of '", path_, "', which has ", header_.pairs);
    const std::int64_t begin = offsets_[2 * pair + which], end = offsets_[2 * pair + which + 1], all = offsets_[2 * header_.pairs];
    require(0 <= begin && begin <= end && end <= all, "pair ", pair, " of '", path_, "' lies outside it: the file is damaged; make it again");
    const std::span<const std::int32_t> tokens{tokens_ + begin, static_cast<std::size_t>(end - begin)};
    for (const std::int32_t token : tokens)
      require(token >= 0 && token < header_.vocab, "pair ", pair, " of '", path_, "' has token ", token, ", and its vocabulary ends at ", header_.vocab - 1,
              ": the file is damaged; make it again");
    return tokens;
  }

  std::string path_;
  MappedFile file_;
  InstructionHeader header_;
  const std::int64_t* offsets_ = nullptr;
  const std::int32_t* tokens_ = nullptr;
};

}  // namespace golem
