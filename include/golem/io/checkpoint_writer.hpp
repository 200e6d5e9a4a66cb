// Writes a checkpoint: safetensors shards with their index, and state.json, in a folder that appears whole or not at all.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/stateful.hpp"
#include "golem/io/atomic_folder.hpp"
#include "golem/io/checkpoint_root.hpp"
#include "golem/io/checkpoint_state.hpp"
#include "golem/io/finite.hpp"
#include "golem/io/safetensors_writer.hpp"

namespace golem {

struct CheckpointOptions {
  std::string model{};                                 // what is saved fits this model only: a loader that gives another text is refused
  std::int64_t keep_last = 0;                          // the newest that stay; 0: all
  std::int64_t keep_every = 0;                         // those whose step is a multiple of it stay for good; 0: none
  std::uint64_t shard_bytes = std::uint64_t{2} << 30;  // tensors of one file, if more than one fit
  FileStep on_file{};                                  // told of each change of the file system
};

/// What a state visit found: scalars by value, tensors by reference to the memory that they are in.
struct CheckpointContents {
  CheckpointState state;
  std::vector<TensorState> tensors;
};

namespace checkpoint {

/// Tensors whose names begin so go to files of their own, which inference needs not.
inline constexpr std::string_view optimizer_prefix = "optimizer.";

/// Gathers a state without changing it.
class Collector : public StateVisitor {
 public:
  void integer(std::string_view name, std::int64_t& value) override { contents.state.integers[fresh(name)] = value; }
  void real(std::string_view name, double& value) override { contents.state.reals[fresh(name)] = value; }
  void text(std::string_view name, std::string& value) override { contents.state.texts[fresh(name)] = value; }
  void tensor(const TensorState& tensor) override {
    fresh(tensor.name);
    contents.tensors.push_back(tensor);
  }
  bool loading() const override { return false; }

  CheckpointContents contents;

 private:
  std::string fresh(std::string_view name) {
    const auto [place, inserted] = names_.emplace(name);
    require(inserted, "a state has two values of the name '", name, "': each needs its own");
    return *place;
  }
  std::set<std::string> names_;
};

/// The tensors of each file: in their order, as many as fit in `bytes`, at least one.
inline std::vector<std::vector<TensorState>> cut_in_shards(const std::vector<TensorState>& tensors, std::uint64_t bytes) {
  std::vector<std::vector<TensorState>> shards;
  std::uint64_t held = 0;
  for (const TensorState& tensor : tensors) {
    if (shards.empty() || held + tensor.bytes > bytes) {
      shards.emplace_back();
      held = 0;
    }
    shards.back().push_back(tensor);
    held += tensor.bytes;
  }
  return shards;
}

/// Writes the tensors as `kind`-00001-of-0000N.safetensors and `kind`.safetensors.index.json, and notes the files in `state`.
inline void write_shards(const std::string& folder, const std::string& kind, const std::vector<TensorState>& tensors,
                         const CheckpointOptions& options, CheckpointState& state) {
  const auto shards = cut_in_shards(tensors, options.shard_bytes);
  nlohmann::json index{{"metadata", {{"total_size", 0}}}, {"weight_map", nlohmann::json::object()}};
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    char number[48];
    std::snprintf(number, sizeof number, "-%05zu-of-%05zu.safetensors", i + 1, shards.size());
    const std::string name = kind + number;
    SafetensorsWriter writer(folder + "/" + name, shards[i], {{"format", "pt"}}, options.on_file);  // "pt": what readers of the ecosystem ask for
    for (const TensorState& tensor : shards[i]) {
      writer.write(tensor);
      index["weight_map"][tensor.name] = name;
      total += tensor.bytes;
    }
    const std::string digest = writer.finish();
    state.files[name] = {writer.size(), digest};
  }
  if (shards.empty()) return;
  index["metadata"]["total_size"] = total;
  OutputFile file(folder + "/" + kind + ".safetensors.index.json", options.on_file);
  file.write(json_text(index, "the index of a checkpoint", 2) + "\n");
  const std::string digest = file.finish();
  state.files[kind + ".safetensors.index.json"] = {file.size(), digest};
}

/// The tensors whose names begin with the optimizer's prefix, or the others.
inline std::vector<TensorState> tensors_of(const std::vector<TensorState>& tensors, bool optimizer) {
  std::vector<TensorState> out;
  for (const TensorState& tensor : tensors)
    if (tensor.name.starts_with(optimizer_prefix) == optimizer) out.push_back(tensor);
  return out;
}

}  // namespace checkpoint

/// Writes what was gathered as the checkpoint of `step` under `root`, makes it the latest, and deletes those that need not be kept.
/// Throws Error, with all former checkpoints as they were, where the disk is full or a tensor has NaN or infinity in it (such a checkpoint
/// could not be gone on from, and would push the sound ones out). The folder of the checkpoint.
inline std::string write_checkpoint(const std::string& root, std::int64_t step, CheckpointContents contents, const CheckpointOptions& options) {
  require(step >= 0, "cannot save a checkpoint of step ", step, ": steps are not negative");
  for (const TensorState& tensor : contents.tensors) {
    const std::int64_t index = first_not_finite(tensor.type, tensor.data, tensor.bytes);
    require(index < 0, "the checkpoint of step ", step, " was not saved in '", root, "': element ", index, " of tensor '", tensor.name,
            "' is NaN or infinite; go on from an earlier checkpoint");
  }
  std::error_code cause;
  std::filesystem::create_directories(root, cause);
  require(!cause, "cannot make the folder '", root, "': ", cause.message());
  remove_leftovers(root, options.on_file);

  const std::string name = checkpoint::folder_of_step(step);
  AtomicFolder folder(root + "/" + name, options.on_file);
  CheckpointState& state = contents.state;
  state.step = step;
  state.model = options.model;
  checkpoint::write_shards(folder.path(), "model", checkpoint::tensors_of(contents.tensors, false), options, state);
  checkpoint::write_shards(folder.path(), "optimizer", checkpoint::tensors_of(contents.tensors, true), options, state);
  OutputFile file(folder.path() + "/state.json", options.on_file);
  file.write(format_checkpoint_state(state, sentence("cannot save '", file.path(), "'")));
  file.finish();
  folder.commit();
  replace_file(root + "/latest", name + "\n", options.on_file);
  checkpoint::prune(root, step, options.keep_last, options.keep_every, options.on_file);
  return root + "/" + name;
}

}  // namespace golem
