// Where the files of a run are, and the text that it is evaluated on.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "golem/core/digest.hpp"
#include "golem/core/error.hpp"
#include "golem/core/mapped_file.hpp"
#include "golem/data/documents.hpp"
#include "golem/eval/bits_per_byte.hpp"

namespace examples {

struct RunFolder {
  std::string path;

  std::string tokenizer() const { return path + "/tokenizer.model"; }
  std::string training_rows() const { return path + "/train.bin"; }
  std::string validation_rows() const { return path + "/valid.bin"; }
  std::string instructions() const { return path + "/instructions.bin"; }
  std::string former_instructions() const { return path + "/former_instructions.bin"; }
  std::string metrics() const { return path + "/metrics.jsonl"; }
  std::string chart() const { return path + "/loss.svg"; }
  std::string summary() const { return path + "/pretrain.json"; }

  void create() const {
    const bool made = mkdir(path.c_str(), 0755) == 0;
    const int cause = errno;
    golem::require(made || cause == EEXIST, "the run's folder '", path, "' cannot be made: ", std::strerror(cause));
  }
};

/// What pretrain wrote of a run at its end. Throws Error where it is something else.
inline nlohmann::json read_summary(const RunFolder& run) {
  const golem::MappedFile file(run.summary());
  const char* const text = reinterpret_cast<const char*>(file.data());
  nlohmann::json summary = nlohmann::json::parse(text, text + file.size(), nullptr, false);
  golem::require(summary.is_object() && summary.contains("model") && summary["model"].is_string(), "'", run.summary(), "' is not what pretrain writes: run pretrain to its end first");
  return summary;
}

/// Documents as tokens, with the bytes that they had.
struct HeldOut {
  std::vector<std::vector<std::int32_t>> documents;
  std::vector<std::int64_t> bytes;

  template <class Tokenizer>
  HeldOut(const std::string& path, const Tokenizer& tokenizer) {
    golem::visit_documents(path, [&](golem::Document& document) {
      documents.push_back(tokenizer.encode(document.text));
      bytes.push_back(static_cast<std::int64_t>(document.text.size()));
    });
  }

  std::string digest() const {
    golem::Sha256 digest;
    for (const auto& document : documents) digest.update(document.data(), document.size() * sizeof(std::int32_t));
    return digest.hex();
  }

  /// Every byte once, half a context at a time, as spec 7.5 for the Pile; `nats(batch)` sums the losses of the scored tokens.
  double bits_per_byte(int context, const golem::SpecialTokens& special, golem::function_ref<double(const golem::Batch&)> nats) const {
    golem::BitsPerByte total;
    for (std::size_t i = 0; i < documents.size(); ++i) {
      const golem::BitsPerByte part = golem::bits_per_byte(documents[i], bytes[i], context, context / 2, special, nats);
      total.bits += part.bits, total.bytes += part.bytes, total.tokens += part.tokens;
    }
    return total.value();
  }
};

}  // namespace examples
