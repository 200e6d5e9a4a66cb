// SatTarget: writes the released layout: `latest`, and the folder that it names, with a file of torch.save's kind for each rank (spec 8).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "golem/config/describe.hpp"
#include "golem/config/presets.hpp"
#include "golem/core/error.hpp"
#include "golem/io/conversion_journal.hpp"
#include "golem/core/output_file.hpp"
#include "golem/io/pickle_writer.hpp"
#include "golem/io/reshard.hpp"
#include "golem/io/sat_checkpoint.hpp"
#include "golem/io/zip_writer.hpp"
#include "golem/version.hpp"

namespace golem {

/// All shards grow together, so that a source is read in one pass; what is complete of all of them is noted after each `note_every` bytes, and by
/// pause().
class SatTarget : public ReshardTarget {
 public:
  /// `iteration` names the folder of the shards. Throws Error where `root` exists, `latest` could not name such a folder, or the plan's model says of
  /// itself what this layout cannot.
  SatTarget(const std::string& root, const std::string& iteration, const ReshardPlan& plan, std::string_view source, FileStep step = {},
            std::uint64_t note_every = std::uint64_t{1} << 30)
      : journal_(root, description(iteration, plan, source), step), iteration_(iteration), note_every_(note_every) {
    std::error_code cause;
    std::filesystem::create_directories(journal_.folder() + "/" + iteration, cause);
    require(!cause, "cannot make the folder '", journal_.folder(), "/", iteration, "': ", cause.message());
    std::vector<PickleTensor> list;
    for (const ReshardedTensor& tensor : resharded_tensors(plan)) {
      list.push_back({tensor.local.name, tensor.local.type, tensor.local.shape});
      bytes_.push_back(tensor.local.bytes);
    }
    const std::string pickle = format_pickle(list, sentence(GOLEM_VERSION_MAJOR, ".", GOLEM_VERSION_MINOR, ".", GOLEM_VERSION_PATCH));
    sums_ = read_sums(plan.tp);
    if (sums_.size() != journal_.lines().size() || !kept_files_are_there(plan.tp, pickle)) {
      journal_.forget();
      sums_.clear();
    }
    for (int rank = 0; rank < plan.tp; ++rank) open(rank, pickle);
    noted_ = completed_ = sums_.size();
  }

  std::size_t completed() const override { return completed_; }

  void begin(const TensorState& tensor) override {
    matrix_ = tensor.type == DType::i8;
    for (std::size_t rank = 0; rank < writers_.size(); ++rank) writers_[rank].begin(entry(static_cast<int>(rank), sums_.size()), tensor.bytes);
  }
  void append(int rank, const void* data, std::size_t bytes) override {
    writers_[static_cast<std::size_t>(rank)].write(data, bytes);
    since_ += bytes;
  }
  void end() override {
    std::vector<std::uint32_t> sums;
    for (ZipWriter& writer : writers_) sums.push_back(writer.end());
    sums_.push_back(std::move(sums));
    scales_missing_ = matrix_;
    if (since_ >= note_every_ && !matrix_) pause();
  }
  void pause() override {
    const std::size_t complete = sums_.size() - (scales_missing_ ? 1 : 0);  // scales stay with their matrix: they are made together
    if (complete > noted_) note(complete);
  }

  void commit() override {
    for (std::size_t rank = 0; rank < writers_.size(); ++rank) {
      writers_[rank].begin(root(static_cast<int>(rank)) + "/version", 2);
      writers_[rank].write("3\n");
      writers_[rank].finish();
    }
    OutputFile latest(journal_.folder() + "/latest", journal_.step());
    latest.write(iteration_);  // no newline: the original reads it whole
    latest.finish();
    files::sync_folder(journal_.folder() + "/" + iteration_, journal_.step());
    journal_.commit();
  }

 private:
  /// Of the conversion. Refuses before the journal begins, which deletes what another conversion left.
  static std::string description(const std::string& iteration, const ReshardPlan& plan, std::string_view source) {
    require(sat::is_iteration(iteration), "a checkpoint of the released layout cannot have its shards in a folder '", printable(iteration),
            "', which its file 'latest' is to name: name the source's folder after the training step, like 49300");
    require(plan.config.key_heads() == plan.config.heads, "the layout in which GLM-130B was released has a key and a value for every head, and this model has ", plan.config.key_heads(), " key heads for ",
            plan.config.heads, ": choose golem's own layout");
    const std::string as_read = describe(plan.config.with([](ModelConfig& c) {
      const ModelConfig& o = glm_130b::config;
      c.norm = o.norm, c.norm_eps = o.norm_eps, c.position = o.position, c.rope_base = o.rope_base, c.rope_table = o.rope_table, c.mask = o.mask;
    }));
    for (const std::string_view word : {", norm ", ", position ", ", mask "}) {
      const std::string_view said = part_of(plan.model, word), read = part_of(as_read, word);
      require(said.empty() || said == read, "the layout in which GLM-130B was released says nothing of a model but its tensors, and whoever reads it takes ", read, ", while this model says ", printable(said), ": choose golem's own layout");
    }
    return sentence("sat ", iteration, " tp ", plan.tp, " ", name_of(plan.type), " bits ", plan.format.bits, " of ", source);
  }

  /// "norm deep 1e-05" of a line that describe() made; "" where it has no such part, and of other texts.
  static std::string_view part_of(std::string_view line, std::string_view word) {
    const std::size_t at = line.starts_with("layers ") ? line.find(word) : line.npos;
    return at == line.npos ? std::string_view() : line.substr(at + 2, line.find(", ", at + 2) - at - 2);
  }

  static std::string root(int rank) {
    const std::string name = sat::shard_name(rank);
    return name.substr(0, name.size() - 3);
  }
  static std::string entry(int rank, std::size_t tensor) { return sentence(root(rank), "/data/", tensor); }
  std::string path(int rank) const { return journal_.folder() + "/" + iteration_ + "/" + sat::shard_name(rank); }

  /// Offset behind the entries of an earlier attempt.
  std::uint64_t kept(int rank, const std::string& pickle) const {
    if (sums_.empty()) return 0;
    std::uint64_t at = ZipWriter::behind(0, root(rank) + "/data.pkl", pickle.size());
    for (std::size_t i = 0; i < sums_.size(); ++i) at = ZipWriter::behind(at, entry(rank, i), bytes_[i]);
    return at;
  }
  bool kept_files_are_there(int tp, const std::string& pickle) const {
    if (sums_.empty()) return true;
    for (int rank = 0; rank < tp; ++rank) {
      std::error_code cause;
      const auto bytes = std::filesystem::file_size(path(rank), cause);
      if (cause || bytes < kept(rank, pickle)) return false;
    }
    return true;
  }

  void open(int rank, const std::string& pickle) {
    ZipWriter& writer = writers_.emplace_back(path(rank), kept(rank, pickle), ZipWriterOptions{.on_file = journal_.step()});
    if (sums_.empty()) {
      writer.begin(root(rank) + "/data.pkl", pickle.size());
      writer.write(pickle);
      writer.end();
      return;
    }
    Crc32 sum;
    sum.update(pickle.data(), pickle.size());
    writer.known(root(rank) + "/data.pkl", pickle.size(), sum.value());
    for (std::size_t i = 0; i < sums_.size(); ++i) writer.known(entry(rank, i), bytes_[i], sums_[i][static_cast<std::size_t>(rank)]);
  }

  /// The journal's lines: of each tensor, its CRC in each shard. What cannot be such a line ends the list.
  std::vector<std::vector<std::uint32_t>> read_sums(int tp) const {
    std::vector<std::vector<std::uint32_t>> all;
    for (const std::string& line : journal_.lines()) {
      std::vector<std::uint32_t> sums;
      for (const char *at = line.c_str(), *end = line.c_str() + line.size(); at < end;) {
        std::uint32_t sum = 0;
        const auto [behind, problem] = std::from_chars(at, end, sum);
        if (problem != std::errc()) break;
        sums.push_back(sum);
        at = behind < end ? behind + 1 : end;
      }
      if (sums.size() != static_cast<std::size_t>(tp) || all.size() == bytes_.size()) break;
      all.push_back(std::move(sums));
    }
    return all;
  }

  void note(std::size_t complete) {
    for (ZipWriter& writer : writers_) writer.sync();
    std::string lines;
    for (; noted_ < complete; ++noted_) {
      if (!lines.empty()) lines += '\n';
      for (std::size_t rank = 0; rank < sums_[noted_].size(); ++rank) lines += (rank > 0 ? " " : "") + sentence(sums_[noted_][rank]);
    }
    journal_.note(lines);
    since_ = 0;
  }

  ConversionJournal journal_;
  std::string iteration_;
  std::uint64_t note_every_, since_ = 0;
  bool matrix_ = false;                           // the tensor that was begun has scales, which come next
  bool scales_missing_ = false;                   // of the last complete tensor
  std::vector<std::uint64_t> bytes_;              // of each tensor on a rank
  std::vector<std::vector<std::uint32_t>> sums_;  // of each complete tensor, by rank
  std::size_t completed_ = 0, noted_ = 0;
  std::deque<ZipWriter> writers_;
};

}  // namespace golem
