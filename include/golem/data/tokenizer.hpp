// Tokenizer: SentencePiece with GLM's special tokens.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "golem/config/special_tokens.hpp"
#include "golem/core/digest.hpp"
#include "golem/core/error.hpp"
#include "golem/core/mapped_file.hpp"
#include "golem/core/utf8.hpp"
#include "golem/data/training_lines.hpp"
#include "golem/data/words.hpp"

namespace golem {

/// How a tokenizer is trained. The same texts and options give the same model.
struct TokenizerTraining {
  int vocab = 4096;                   // pieces, special tokens and 256 bytes included
  double character_coverage = 0.998;  // of the characters of the texts, at most, and no more than half of the vocabulary; the rest is spelt in bytes
  std::size_t most_bytes = 16 << 20;  // of longer texts, every k-th line is read
  bool or_fewer = false;              // where the texts do not give as many pieces, take those that they give
};

enum class Newlines : std::uint8_t {
  keep,    // '\n' is the newline token
  ignore,  // '\n' is white space, GLM-130B's own way (spec 3)
};

/// Text to tokens and back. decode(encode(text)) is the text, byte for byte, for a model made by train() and any UTF-8.
class Tokenizer {
 public:
  /// Trains a unigram model on lines of text. Newlines are a token of their own; any byte can be spelt. Throws Error where
  /// the texts do not give that many pieces, and fewer were not asked for.
  static Tokenizer train(std::span<const std::string> texts, const TokenizerTraining& training) {
    return train(training_lines(texts, training.most_bytes), training);
  }
  /// The same of lines that were gathered text by text, at most training.most_bytes of them.
  static Tokenizer train(TrainingLines from, const TokenizerTraining& training) {
    std::vector<std::string> text = from.take();
    keep_frequent_characters(text, (training.vocab - 256) / 2, training.character_coverage);
    require(training.vocab >= enough_pieces || training.vocab >= fewest_pieces(text), "a tokenizer of ", training.vocab, " pieces cannot be trained on ", from.texts(), " texts: ask for at least ", enough_pieces,
            ", which are 256 bytes, ", special_pieces, " special tokens, a space and some characters");
    require(std::any_of(text.begin(), text.end(), holds_text), "a tokenizer cannot be trained on ", from.texts(), " texts that hold nothing but names of special tokens: give other text");
    Lines lines(text);
    const std::unordered_map<std::string, std::string> options{
        {"model_type", "unigram"},
        {"vocab_size", sentence(training.vocab)},
        {"hard_vocab_limit", training.or_fewer ? "false" : "true"},
        {"character_coverage", "1"},                  // of the characters that were kept
        {"required_chars", std::string(space_sign)},  // also where no text has a space
        {"normalization_rule_name", "identity"},      // so that no byte of the text is lost
        {"remove_extra_whitespaces", "false"},
        {"add_dummy_prefix", "false"},
        {"allow_whitespace_only_pieces", "true"},
        {"byte_fallback", "true"},
        {"unk_id", "0"},
        {"bos_id", "-1"},
        {"eos_id", "1"},
        {"pad_id", "2"},
        {"control_symbols", joined(control_symbols)},               // not user-defined: no text is taken for them
        {"seed_sentencepiece_size", sentence(4 * training.vocab)},  // with one sub-iteration, 2.7 times as fast as the defaults,
        {"num_sub_iterations", "1"},                                // and 2% fewer tokens, on 4 MB of English and Chinese
        {"max_sentence_length", sentence(longest_training_line)},
        {"num_threads", "1"},  // sums in one order
        {"minloglevel", "2"}};
    std::string model;
    const auto status = sentencepiece::SentencePieceTrainer::Train(options, &lines, &model);
    require(status.ok(), "a tokenizer of ", training.vocab, " pieces cannot be trained on ", from.texts(), " texts (", text.size(),
            " lines): ask for fewer pieces, or give more text (SentencePiece: ", status.message(), ")");
    return Tokenizer(std::move(model), "the trained model");
  }

  /// Reads a SentencePiece model. Throws Error where `path` is none, or lacks one of GLM's special tokens.
  static Tokenizer load(const std::string& path) {
    const MappedFile file(path);
    return Tokenizer(std::string(reinterpret_cast<const char*>(file.data()), file.size()), "'" + path + "'");
  }

  /// The model, as load() reads it.
  const std::string& bytes() const { return model_; }
  /// SHA-256 of the model: a checkpoint and a corpus remember it.
  const std::string& digest() const { return digest_; }
  int size() const { return processor_->GetPieceSize(); }
  const SpecialTokens& special() const { return special_; }

  /// The borders of words in this model's tokens.
  Words words() const {
    std::vector<std::string> texts;
    for (std::int32_t token = 0; token < size(); ++token) {
      const bool is_special = processor_->IsControl(token) || processor_->IsUnknown(token);
      texts.push_back(is_special ? std::string() : decode(std::span(&token, 1)));
    }
    return Words(texts);
  }

  /// Tokens of plain text: nothing in it is taken for a special token. Throws Error where it is not UTF-8.
  std::vector<std::int32_t> encode(std::string_view text, Newlines newlines = Newlines::keep) const {
    const std::size_t bad = first_invalid_utf8(text);
    require(bad == text.npos, "a text of ", text.size(), " bytes cannot be tokenised: it is not UTF-8 at byte ", bad);
    std::vector<std::int32_t> tokens;
    std::string spaced;
    if (newlines == Newlines::ignore && text.find('\n') != text.npos) {
      spaced = text;
      std::replace(spaced.begin(), spaced.end(), '\n', ' ');
      text = spaced;
    }
    for (;;) {
      const std::size_t end = text.find('\n');
      append_line(tokens, text.substr(0, end));
      if (end == text.npos) return tokens;
      tokens.push_back(special_.newline);
      text.remove_prefix(end + 1);
    }
  }

  /// The same, but "[MASK]", "[gMASK]" and "[sMASK]" are the mask tokens. A space before one is left to the answer, since a
  /// word's first token begins with its space.
  std::vector<std::int32_t> encode_prompt(std::string_view text, Newlines newlines = Newlines::keep) const {
    std::vector<std::int32_t> tokens;
    while (!text.empty()) {
      std::size_t at = text.npos, length = 0;
      std::int32_t token = 0;
      for (const auto& [name, id] :
           {std::pair<std::string_view, std::int32_t>{"[MASK]", special_.mask}, {"[gMASK]", special_.gmask}, {"[sMASK]", special_.smask}})
        if (const std::size_t found = text.find(name); found < at) at = found, length = name.size(), token = id;
      std::string_view before = text.substr(0, at);
      const bool spaced = before.ends_with(' ') || (newlines == Newlines::ignore && before.ends_with('\n'));
      if (at != text.npos && spaced) before.remove_suffix(1);
      const auto part = encode(before, newlines);
      tokens.insert(tokens.end(), part.begin(), part.end());
      if (at == text.npos) break;
      tokens.push_back(token);
      text.remove_prefix(at + length);
    }
    return tokens;
  }

  /// The text of tokens. Mask tokens are written as "[MASK]" and so on; other special tokens, and ids that no text has, are
  /// left out.
  std::string decode(std::span<const std::int32_t> tokens) const {
    std::string text;
    std::vector<int> run;
    const auto flush = [&] {
      std::string part;
      if (!run.empty()) require(processor_->Decode(run, &part).ok(), "tokens cannot be written as text");
      text += part;
      run.clear();
    };
    for (const std::int32_t token : tokens) {
      if (token == special_.mask || token == special_.gmask || token == special_.smask) {
        flush();
        text += processor_->IdToPiece(token);
      } else if (token == special_.newline) {
        flush();
        text += '\n';
      } else if (token >= 0 && token < size() && !processor_->IsControl(token) && !processor_->IsUnknown(token)) {
        run.push_back(token);
      }
    }
    flush();
    return text;
  }

 private:
  static constexpr std::string_view space_sign = "\u2581";  // what SentencePiece writes for a space: as text it is spelt in bytes
  static constexpr std::string_view control_symbols[]{"[MASK]", "[gMASK]", "[sMASK]", "[sop]", "[eop]", "<n>"}, reserved_pieces[]{"<unk>", "</s>", "<pad>"};
  static constexpr int special_pieces = static_cast<int>(std::size(control_symbols) + std::size(reserved_pieces));
  static constexpr int enough_pieces = 256 + 2 * (special_pieces + 1);  // train() takes no more characters than leave room for the others

  /// "a,b,c", as SentencePiece takes lists.
  static std::string joined(std::span<const std::string_view> names) {
    std::string out;
    for (const std::string_view name : names) out += sentence(out.empty() ? "" : ",", name);
    return out;
  }

  /// Pieces that every model of these lines has.
  static int fewest_pieces(const std::vector<std::string>& lines) {
    std::set<char32_t> characters{U' '};
    for (const std::string& line : lines)
      for (std::size_t at = 0; at < line.size();) {
        const CodePoint c = decode_utf8(line, at);
        characters.insert(c.value);
        at += static_cast<std::size_t>(c.bytes);
      }
    return 256 + special_pieces + static_cast<int>(characters.size());
  }

  /// Whether a line is more than names of pieces that are no text. SentencePiece cuts at these, and where nothing is left ends the process.
  static bool holds_text(std::string_view line) {
    const auto is_byte = [](std::string_view s) { return s.starts_with("<0x") && s.size() >= 6 && s[5] == '>' && s.substr(3, 2).find_first_not_of("0123456789ABCDEF") == s.npos; };
    while (!line.empty()) {
      std::size_t length = is_byte(line) ? 6 : 0;
      for (const auto& names : {std::span<const std::string_view>(control_symbols), std::span<const std::string_view>(reserved_pieces)})
        for (const std::string_view name : names)
          if (line.starts_with(name)) length = name.size();
      if (length == 0) return true;
      line.remove_prefix(length);
    }
    return false;
  }

  class Lines : public sentencepiece::SentenceIterator {
   public:
    explicit Lines(const std::vector<std::string>& lines) : lines_(lines) {}
    bool done() const override { return line_ >= lines_.size(); }
    void Next() override { ++line_; }
    const std::string& value() const override { return lines_[line_]; }
    sentencepiece::util::Status status() const override { return {}; }

   private:
    const std::vector<std::string>& lines_;
    std::size_t line_ = 0;
  };

  Tokenizer(std::string model, const std::string& where) : model_(std::move(model)), digest_(sha256_hex(model_.data(), model_.size())) {
    processor_ = std::make_unique<sentencepiece::SentencePieceProcessor>();
    const auto status = processor_->LoadFromSerializedProto(model_);
    require(status.ok(), where, " is no SentencePiece model (", status.message(), "): give the .model file that the model was trained with");
    const auto id = [&](const char* piece) {
      const int found = processor_->PieceToId(piece);
      require(found >= 0 && processor_->IdToPiece(found) == piece, where, " has no piece '", piece, "': it was not trained for GLM");
      return static_cast<std::int32_t>(found);
    };
    special_ = {.mask = id("[MASK]"),
                .gmask = id("[gMASK]"),
                .smask = id("[sMASK]"),
                .sop = id("[sop]"),
                .eop = id("[eop]"),
                .eos = id("</s>"),
                .newline = id("<n>"),
                .pad = id("<pad>")};
    for (const char* byte : {"<0xE2>", "<0x96>", "<0x81>"})
      if (const int found = processor_->PieceToId(byte); processor_->IsByte(found)) space_sign_.push_back(found);
  }

  void append_line(std::vector<std::int32_t>& tokens, std::string_view line) const {
    for (;;) {
      const std::size_t end = space_sign_.empty() ? line.npos : line.find(space_sign);
      std::vector<int> ids;
      const auto status = processor_->Encode(line.substr(0, end), &ids);
      require(status.ok(), "a line of ", line.size(), " bytes cannot be tokenised (SentencePiece: ", status.message(), ")");
      tokens.insert(tokens.end(), ids.begin(), ids.end());
      if (end == line.npos) return;
      tokens.insert(tokens.end(), space_sign_.begin(), space_sign_.end());
      line.remove_prefix(end + space_sign.size());
    }
  }

  std::string model_, digest_;
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  SpecialTokens special_;
  std::vector<std::int32_t> space_sign_;  // in bytes; empty for a model without byte pieces, which takes it for a space
};

}  // namespace golem
