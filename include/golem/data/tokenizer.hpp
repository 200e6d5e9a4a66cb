// Tokenizer: SentencePiece with GLM's special tokens.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <cstdint>
#include <memory>
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

namespace golem {

/// How a tokenizer is trained. The same texts and options give the same model.
struct TokenizerTraining {
  int vocab = 4096;                 // pieces, special tokens and 256 bytes included
  double character_coverage = 0.9995;  // of the characters of the texts; the rest is spelt in bytes
};

enum class Newlines : std::uint8_t {
  keep,    // '\n' is the newline token
  ignore,  // '\n' is white space, GLM-130B's own way (spec 3)
};

/// Text to tokens and back. decode(encode(text)) is the text, byte for byte, for a model made by train().
class Tokenizer {
 public:
  /// Trains a unigram model on lines of text; newlines are a token of their own, and any byte can be spelt.
  static Tokenizer train(std::span<const std::string> texts, const TokenizerTraining& training) {
    Lines lines(texts);
    const std::unordered_map<std::string, std::string> options{{"model_type", "unigram"},
                                                               {"vocab_size", sentence(training.vocab)},
                                                               {"character_coverage", sentence(training.character_coverage)},
                                                               {"normalization_rule_name", "identity"},  // so that no byte of the text is lost
                                                               {"remove_extra_whitespaces", "false"},
                                                               {"add_dummy_prefix", "false"},
                                                               {"allow_whitespace_only_pieces", "true"},
                                                               {"byte_fallback", "true"},
                                                               {"unk_id", "0"},
                                                               {"bos_id", "-1"},
                                                               {"eos_id", "1"},
                                                               {"pad_id", "2"},
                                                               {"control_symbols", "[MASK],[gMASK],[sMASK],[sop],[eop]"},
                                                               {"user_defined_symbols", "<n>"},
                                                               {"max_sentence_length", "100000"},
                                                               {"num_threads", "1"},  // sums in one order
                                                               {"minloglevel", "2"}};
    std::string model;
    const auto status = sentencepiece::SentencePieceTrainer::Train(options, &lines, &model);
    require(status.ok(), "a tokenizer of ", training.vocab, " pieces cannot be trained on ", texts.size(), " texts of ", lines.bytes(),
            " bytes: ask for fewer pieces, or give more text (SentencePiece: ", status.message(), ")");
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

  /// Tokens of plain text: nothing in it is taken for a special token.
  std::vector<std::int32_t> encode(std::string_view text, Newlines newlines = Newlines::keep) const {
    std::string lines;
    if (newlines == Newlines::keep && text.find('\n') != text.npos) {
      for (const char c : text) c == '\n' ? lines += "<n>" : lines += c;
      text = lines;
    }
    std::vector<int> ids;
    const auto status = processor_->Encode(text, &ids);
    require(status.ok(), "a text of ", text.size(), " bytes cannot be tokenised (SentencePiece: ", status.message(), ")");
    return {ids.begin(), ids.end()};
  }

  /// The same, but "[MASK]", "[gMASK]" and "[sMASK]" are the mask tokens.
  std::vector<std::int32_t> encode_prompt(std::string_view text, Newlines newlines = Newlines::keep) const {
    std::vector<std::int32_t> tokens;
    while (!text.empty()) {
      std::size_t at = text.npos, length = 0;
      std::int32_t token = 0;
      for (const auto& [name, id] : {std::pair<std::string_view, std::int32_t>{"[MASK]", special_.mask}, {"[gMASK]", special_.gmask}, {"[sMASK]", special_.smask}})
        if (const std::size_t found = text.find(name); found < at) at = found, length = name.size(), token = id;
      const auto part = encode(text.substr(0, at), newlines);
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
  // The lines of the texts, one after the other.
  class Lines : public sentencepiece::SentenceIterator {
   public:
    explicit Lines(std::span<const std::string> texts) : texts_(texts) {
      for (const std::string& text : texts) bytes_ += text.size();
      Next();
    }
    bool done() const override { return done_; }
    void Next() override {
      do {
        if (at_ > (text_ < texts_.size() ? texts_[text_].size() : 0)) ++text_, at_ = 0;
        if (text_ >= texts_.size()) {
          done_ = true;
          return;
        }
        const std::size_t end = std::min(texts_[text_].find('\n', at_), texts_[text_].size());
        line_.assign(texts_[text_], at_, end - at_);
        at_ = end + 1;
      } while (line_.empty());
    }
    const std::string& value() const override { return line_; }
    sentencepiece::util::Status status() const override { return {}; }
    std::size_t bytes() const { return bytes_; }

   private:
    std::span<const std::string> texts_;
    std::size_t text_ = 0, at_ = 0, bytes_ = 0;
    std::string line_;
    bool done_ = false;
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
    special_ = {.mask = id("[MASK]"), .gmask = id("[gMASK]"), .smask = id("[sMASK]"), .sop = id("[sop]"), .eop = id("[eop]"), .eos = id("</s>"), .newline = id("<n>"), .pad = id("<pad>")};
  }

  std::string model_, digest_;
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  SpecialTokens special_;
};

}  // namespace golem
