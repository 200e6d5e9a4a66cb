// IceTokenizer: GLM-130B's own tokenizer, icetk: a SentencePiece model whose pieces begin at id 20000, and special ids behind it (spec 2.1, 3).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sentencepiece_processor.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/config/special_tokens.hpp"
#include "golem/core/digest.hpp"
#include "golem/core/error.hpp"
#include "golem/core/mapped_file.hpp"
#include "golem/core/utf8.hpp"
#include "golem/data/tokenizer.hpp"
#include "golem/data/words.hpp"

namespace golem {

/// Text to GLM-130B's ids and back. Its model, ice_text.model, comes with icetk; golem has none.
class IceTokenizer {
 public:
  static constexpr std::int32_t first_piece = 20000;     // ids below are images, which no text has
  static constexpr std::int32_t first_special = 150000;  // [MASK]
  static constexpr int ids = 150008;                     // the model's vocabulary is padded to 150528

  /// Reads ice_text.model. Throws Error where `path` is no SentencePiece model, or not laid out as icetk's.
  static IceTokenizer load(const std::string& path) {
    const MappedFile file(path);
    return IceTokenizer(std::string(reinterpret_cast<const char*>(file.data()), file.size()), path);
  }

  const std::string& bytes() const { return model_; }
  /// SHA-256 of the model: a checkpoint and a corpus remember it.
  const std::string& digest() const { return digest_; }
  int size() const { return ids; }
  const SpecialTokens& special() const { return glm_130b_tokens; }

  /// The borders of words in this model's ids.
  Words words() const {
    std::vector<std::string> texts(ids);
    for (int piece = 0; piece < processor_->GetPieceSize(); ++piece) {
      if (processor_->IsControl(piece) || processor_->IsUnknown(piece)) continue;
      std::string text = processor_->IsByte(piece) ? "\ufffd" : processor_->IdToPiece(piece);
      for (std::size_t at = 0; (at = text.find(space_sign, at)) != text.npos; ++at) text.replace(at, space_sign.size(), 1, ' ');
      texts[static_cast<std::size_t>(first_piece + piece)] = text == newline ? "\n" : text;
    }
    return Words(texts);
  }

  /// Ids of plain text, by the model's own normaliser: runs of white space become one, wide punctuation narrow. "<n>" in
  /// it is a newline, whatever `newlines` says of '\n'. Throws Error where it is not UTF-8.
  std::vector<std::int32_t> encode(std::string_view text, Newlines newlines = Newlines::ignore) const {
    const std::size_t bad = first_invalid_utf8(text);
    require(bad == text.npos, "a text of ", text.size(), " bytes cannot be tokenised: it is not UTF-8 at byte ", bad);
    std::string marked(text);
    if (newlines == Newlines::keep)
      for (std::size_t at = 0; (at = marked.find('\n', at)) != marked.npos; at += newline.size()) marked.replace(at, 1, newline);
    std::vector<int> pieces;
    const auto status = processor_->Encode(marked, &pieces);
    require(status.ok(), "a text of ", text.size(), " bytes cannot be tokenised (SentencePiece: ", status.message(), ")");
    std::vector<std::int32_t> tokens;
    tokens.reserve(pieces.size());
    for (const int piece : pieces) tokens.push_back(first_piece + piece);
    return tokens;
  }

  /// A prompt as the original's command line reads it (spec 2.2): "[MASK]", "[gMASK]" and "[sMASK]" are the mask tokens;
  /// [gMASK] follows where there is none, and eos where the text does not end in one.
  std::vector<std::int32_t> encode_prompt(std::string_view text, Newlines newlines = Newlines::ignore) const {
    std::vector<std::int32_t> tokens;
    std::string_view rest = text;
    bool has_mask = false;
    for (;;) {
      std::size_t at = rest.npos;
      std::int32_t mask = 0;
      for (std::int32_t kind = 0; kind < 3; ++kind)
        if (const std::size_t found = rest.find(mask_names[static_cast<std::size_t>(kind)]); found < at) at = found, mask = kind;
      const auto part = encode(rest.substr(0, at), newlines);
      tokens.insert(tokens.end(), part.begin(), part.end());
      if (at == rest.npos) break;
      has_mask = true;
      tokens.push_back(first_special + mask);
      rest.remove_prefix(at + mask_names[static_cast<std::size_t>(mask)].size());
    }
    if (!has_mask) tokens.push_back(glm_130b_tokens.gmask);
    else if (!rest.empty()) tokens.push_back(glm_130b_tokens.eos);
    return tokens;
  }

  /// The text of tokens, as Tokenizer::decode writes it: mask tokens as "[MASK]" and so on; other special ids, and ids that
  /// no text has, are left out. What stands between two masks is decoded by itself.
  std::string decode(std::span<const std::int32_t> tokens) const {
    return join(tokens, [](std::int32_t special) { return special < 3 ? std::string(mask_names[static_cast<std::size_t>(special)]) : std::string(); });
  }

  /// The text of tokens, as the original's detokenize writes it: each special id by its name in brackets, as "[[gMASK]]",
  /// "[sop]" and "[</s>]". Ids that no text has end the original with an error; here they are left out.
  std::string detokenize(std::span<const std::int32_t> tokens) const {
    return join(tokens, [](std::int32_t special) {
      constexpr std::array<std::string_view, 9> names{"[MASK]", "[gMASK]", "[sMASK]", "eod", "sop", "eop", "ENC", "dBLOCK", "</s>"};
      return "[" + std::string(names[static_cast<std::size_t>(special)]) + "]";
    });
  }

 private:
  static constexpr std::string_view newline = "<n>", space_sign = "\u2581";
  static constexpr std::array<std::string_view, 3> mask_names{"[MASK]", "[gMASK]", "[sMASK]"};

  IceTokenizer(std::string model, const std::string& path) : model_(std::move(model)), digest_(sha256_hex(model_.data(), model_.size())) {
    processor_ = std::make_unique<sentencepiece::SentencePieceProcessor>();
    const auto status = processor_->LoadFromSerializedProto(model_);
    require(status.ok(), "'", path, "' is no SentencePiece model (", status.message(), "): give icetk's ice_text.model");
    const char* first[]{"<unk>", "<s>", "</s>", "<pad>", "<n>"};
    const int pieces = processor_->GetPieceSize();
    bool is_icetk = pieces > static_cast<int>(std::size(first)) && pieces <= first_special - first_piece && processor_->IsUnknown(0);
    for (int i = 0; is_icetk && i < static_cast<int>(std::size(first)); ++i) is_icetk = processor_->IdToPiece(i) == first[i];
    require(is_icetk, "'", path, "' is a SentencePiece model of ", pieces, " pieces, but not icetk's, which has up to 130000 and begins with <unk>, <s>, </s>, <pad>, <n>: give its ice_text.model");
  }

  /// Which special id a token is, counted from [MASK], and eos as 8; -1: none.
  static std::int32_t special_index(std::int32_t token) {
    if (token == glm_130b_tokens.eos) return ids - first_special;
    return token >= first_special && token < ids ? token - first_special : -1;
  }

  /// Text between special ids, each run decoded by itself, and `name(special index)` in their places. Where that is empty
  /// the run goes on.
  template <class Name>
  std::string join(std::span<const std::int32_t> tokens, Name name) const {
    std::string text;
    std::vector<int> run;
    const auto flush = [&] {
      std::string part;
      if (!run.empty()) require(processor_->Decode(run, &part).ok(), "tokens cannot be written as text");
      for (std::size_t at = 0; (at = part.find(newline, at)) != part.npos; ++at) part.replace(at, newline.size(), 1, '\n');
      text += part;
      run.clear();
    };
    for (const std::int32_t token : tokens) {
      if (const std::int32_t special = special_index(token); special >= 0) {
        const std::string written = name(special);
        if (written.empty()) continue;
        flush();
        text += written;
      } else if (token >= first_piece && token < first_piece + processor_->GetPieceSize()) {
        run.push_back(token - first_piece);
      }
    }
    flush();
    return text;
  }

  std::string model_, digest_;
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
};

}  // namespace golem
