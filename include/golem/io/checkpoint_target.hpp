// CheckpointTarget: writes a golem checkpoint tensor by tensor, never a whole one in memory: safetensors shards, their index, state.json.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <charconv>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "golem/config/describe.hpp"
#include "golem/core/error.hpp"
#include "golem/io/checkpoint_root.hpp"
#include "golem/io/checkpoint_shards.hpp"
#include "golem/io/checkpoint_state.hpp"
#include "golem/io/conversion_journal.hpp"
#include "golem/io/rank_part.hpp"
#include "golem/io/reshard.hpp"
#include "golem/io/safetensors_writer.hpp"

namespace golem {

/// Files are written one after the other; those that are complete are noted. Tensors are whole: the plan's tp is 1.
class CheckpointTarget : public ReshardTarget {
 public:
  /// Makes the run's folder `root` with the one checkpoint of `step`. Throws Error where it exists, or the plan is for several ranks.
  CheckpointTarget(const std::string& root, std::int64_t step, const ReshardPlan& plan, std::string_view source, FileStep on_file = {},
                   std::uint64_t shard_bytes = std::uint64_t{2} << 30)
      : journal_(root, description(step, plan, source, shard_bytes), on_file), name_(checkpoint::folder_of_step(step)) {
    checkpoint_.on_file = on_file;
    state_.step = step;
    state_.model = plan.model.empty() ? describe(plan.config) : plan.model;
    if (plan.format.bits > 0) state_.integers = {{"quantized.bits", plan.format.bits}, {"quantized.group", 0}};
    std::error_code cause;
    std::filesystem::create_directories(folder(), cause);
    require(!cause, "cannot make the folder '", folder(), "': ", cause.message());
    std::uint64_t held = 0;
    for (const ReshardedTensor& tensor : resharded_tensors(plan)) {
      if (shards_.empty() || (held + tensor.local.bytes > shard_bytes && !tensor.scales)) shards_.emplace_back(), held = 0;
      shards_.back().push_back(tensor.local);
      held += tensor.local.bytes;
    }
    read_journal();
  }

  std::size_t completed() const override { return completed_; }

  void begin(const TensorState& tensor) override {
    if (!writer_) {
      writer_ = std::make_unique<SafetensorsWriter>(folder() + "/" + file_name(files_.size()), shards_[files_.size()], metadata(), journal_.step());
      written_ = 0;
    }
    writer_->begin(tensor);
  }
  void append(int, const void* data, std::size_t bytes) override { writer_->append(data, bytes); }
  void end() override {
    if (++written_ < shards_[files_.size()].size()) return;
    const std::string digest = writer_->finish();
    files_.push_back({writer_->size(), digest});
    journal_.note(sentence(files_.back().bytes, " ", digest));
    writer_.reset();
  }

  void commit() override {
    RankPart part;
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      for (const TensorState& tensor : shards_[i])
        part.tensors.push_back({tensor.name, tensor.type, tensor.shape, whole_slice(matrix_extent(tensor.shape, tensor.name)), file_name(i)});
      part.files[file_name(i)] = files_[i];
    }
    state_.files = part.files;
    checkpoint::write_indexes(folder(), {part}, checkpoint_, state_);
    OutputFile state(folder() + "/state.json", journal_.step());
    state.write(format_checkpoint_state(state_, sentence("cannot save '", state.path(), "'")));
    state.finish();
    OutputFile latest(journal_.folder() + "/latest", journal_.step());
    latest.write(name_ + "\n");
    latest.finish();
    files::sync_folder(folder(), journal_.step());
    journal_.commit();
  }

 private:
  /// Of the conversion. Refuses before the journal begins, which deletes what another conversion left.
  static std::string description(std::int64_t step, const ReshardPlan& plan, std::string_view source, std::uint64_t shard_bytes) {
    require(plan.tp == 1, "a golem checkpoint of whole tensors cannot be written for ", plan.tp,
            " ranks: its reader cuts them, and only files of the released layout hold scales of a rank's rows; leave --tp out, or choose --layout sat");
    return sentence("golem step ", step, " ", name_of(plan.type), " bits ", plan.format.bits, " shards ", shard_bytes, " of ", source);
  }

  std::string folder() const { return journal_.folder() + "/" + name_; }
  std::string file_name(std::size_t shard) const { return checkpoint::shard_name("model", checkpoint_, shard, shards_.size()); }
  static std::map<std::string, std::string> metadata() { return {{"format", "pt"}}; }

  /// The journal's lines: bytes and digest of each complete file.
  void read_journal() {
    for (const std::string& line : journal_.lines()) {
      const std::size_t space = line.find(' ');
      CheckpointFile file;
      if (space == std::string::npos || files_.size() == shards_.size()) break;
      std::from_chars(line.data(), line.data() + space, file.bytes);
      file.sha256 = line.substr(space + 1);
      std::error_code cause;
      if (std::filesystem::file_size(folder() + "/" + file_name(files_.size()), cause) != file.bytes || cause) break;
      completed_ += shards_[files_.size()].size();
      files_.push_back(std::move(file));
    }
    if (files_.size() == journal_.lines().size()) return;
    journal_.forget();
    files_.clear(), completed_ = 0;
  }

  ConversionJournal journal_;
  std::string name_;
  CheckpointState state_;
  CheckpointOptions checkpoint_;
  std::vector<std::vector<TensorState>> shards_;
  std::vector<CheckpointFile> files_;
  std::size_t completed_ = 0, written_ = 0;
  std::unique_ptr<SafetensorsWriter> writer_;
};

}  // namespace golem
