// AnyTokenizer: golem's own tokenizer or GLM-130B's icetk, whichever a SentencePiece model is for, behind one face.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sentencepiece_processor.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "golem/config/special_tokens.hpp"
#include "golem/core/error.hpp"
#include "golem/core/mapped_file.hpp"
#include "golem/data/documents.hpp"
#include "golem/data/tokenizer.hpp"
#include "golem/data/tokenizer_icetk.hpp"
#include "golem/data/words.hpp"

namespace golem {

/// For programs that run models of either kind. What belongs to one of them alone is in its own class.
class AnyTokenizer {
 public:
  explicit AnyTokenizer(Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {}
  explicit AnyTokenizer(IceTokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {}

  /// Reads a SentencePiece model: golem's have the mask tokens as pieces, icetk's has them behind its pieces. Throws Error where
  /// `path` is neither.
  static AnyTokenizer load(const std::string& path) {
    if (holds_icetk(path)) return AnyTokenizer(IceTokenizer::load(path));
    return AnyTokenizer(Tokenizer::load(path));
  }

  bool is_icetk() const { return std::holds_alternative<IceTokenizer>(tokenizer_); }
  /// The model, as load() reads it.
  const std::string& bytes() const {
    return std::visit([](const auto& tokenizer) -> const std::string& { return tokenizer.bytes(); }, tokenizer_);
  }
  const std::string& digest() const {
    return std::visit([](const auto& tokenizer) -> const std::string& { return tokenizer.digest(); }, tokenizer_);
  }
  int size() const {
    return std::visit([](const auto& tokenizer) { return tokenizer.size(); }, tokenizer_);
  }
  const SpecialTokens& special() const {
    return std::visit([](const auto& tokenizer) -> const SpecialTokens& { return tokenizer.special(); }, tokenizer_);
  }
  /// The borders of words in this model's tokens.
  Words words() const {
    return std::visit([](const auto& tokenizer) { return tokenizer.words(); }, tokenizer_);
  }
  /// Tokens of plain text with its newlines, as models learn from it. Throws Error where it is not UTF-8.
  std::vector<std::int32_t> encode(std::string_view text) const {
    return std::visit([&](const auto& tokenizer) { return tokenizer.encode(text, Newlines::keep); }, tokenizer_);
  }
  std::string decode(std::span<const std::int32_t> tokens) const {
    return std::visit([&](const auto& tokenizer) { return tokenizer.decode(tokens); }, tokenizer_);
  }

  /// The tokens that the original's program makes of a text (spec 2.2), newlines as white space: a text without a mask is continued,
  /// and one that does not end in a mask ends in eos. Throws Error where it is not UTF-8, or nothing but white space.
  std::vector<std::int32_t> encode_original(std::string_view text) const {
    require_text(text, "the text");
    require(text.find_first_not_of(" \t\r\n") != text.npos, "a text without a word has nothing to go on: give it some text, or a blank in some text");
    if (const auto* const icetk = std::get_if<IceTokenizer>(&tokenizer_)) return icetk->encode_prompt(text, Newlines::ignore);
    const SpecialTokens& s = special();
    std::vector<std::int32_t> tokens = std::get<Tokenizer>(tokenizer_).encode_prompt(text, Newlines::ignore);
    const auto is_mask = [&s](std::int32_t token) { return token == s.mask || token == s.gmask || token == s.smask; };
    bool has_mask = false;
    for (const std::int32_t token : tokens) has_mask = has_mask || is_mask(token);
    if (!has_mask) tokens.push_back(s.gmask);
    else if (!is_mask(tokens.back())) tokens.push_back(s.eos);
    return tokens;
  }

  /// The ids below `vocab` that are neither text nor special: icetk's images, and what pads a vocabulary. No model that was trained
  /// on text writes one.
  std::vector<std::int32_t> ids_without_text(int vocab) const {
    std::vector<std::int32_t> ids;
    for (std::int32_t id = 0; id < vocab; ++id)
      if (id >= size() || (is_icetk() && id < IceTokenizer::first_piece)) ids.push_back(id);
    return ids;
  }

 private:
  static bool holds_icetk(const std::string& path) {
    const MappedFile file(path);
    sentencepiece::SentencePieceProcessor model;
    return model.LoadFromSerializedProto({reinterpret_cast<const char*>(file.data()), file.size()}).ok() && model.IsUnknown(model.PieceToId("[MASK]"));
  }

  std::variant<Tokenizer, IceTokenizer> tokenizer_;
};

}  // namespace golem
