// The doctor of golem's own checkpoints: which model they hold, and all that is wrong with them, each in one sentence.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/config/presets.hpp"
#include "golem/core/digest.hpp"
#include "golem/core/error.hpp"
#include "golem/core/mapped_file.hpp"
#include "golem/core/number.hpp"
#include "golem/core/slice.hpp"
#include "golem/core/stateful.hpp"
#include "golem/io/checkpoint_reader.hpp"
#include "golem/io/doctor_options.hpp"
#include "golem/io/element_conversion.hpp"
#include "golem/io/finite.hpp"
#include "golem/io/printable.hpp"
#include "golem/io/reshard.hpp"
#include "golem/io/safetensors.hpp"
#include "golem/io/stored_model.hpp"

namespace golem {

/// Bits of a checkpoint's linear weights: 8 or 4, or 0 where they are not quantised. Throws Error for any other number.
inline int stored_bits(const CheckpointReader& reader) {
  const auto found = reader.state().integers.find("quantized.bits");
  const std::int64_t bits = found == reader.state().integers.end() ? 0 : found->second;
  require(bits == 0 || bits == 4 || bits == 8, "'", reader.folder(), "' says that its weights have ", bits, " bits: golem knows 8 and 4");
  return static_cast<int>(bits);
}

namespace checkpoint {

/// The number behind a word of the line in which a checkpoint says what its model is: see describe(); 0 where there is none.
inline int number_behind(std::string_view word, std::string_view line) {
  int number = 0;
  if (const auto at = line.find(word); at != std::string_view::npos)
    std::from_chars(line.data() + at + word.size(), line.data() + line.size(), number);
  return number;
}

}  // namespace checkpoint

/// The sizes of a checkpoint's model, by its shapes, and its heads, which with them tell its key heads, by what it says of itself; where it says nothing, `heads`, or 0 for GLM-130B's
/// 128 dims each. The rest is GLM-130B's. Throws Error where the shapes are those of no model, or are at odds with `heads` or what it says.
inline ModelConfig checkpoint_model(const CheckpointReader& reader, int heads = 0) {
  const std::string where = sentence("'", reader.folder(), "'");
  const auto shape = [&](std::string_view name) -> const std::vector<std::int64_t>& {
    const StoredTensor* const found = reader.find(name);
    require(found && found->shape.size() == 2, where, " has no matrix '", name, "': it is no checkpoint of a GLM");
    require(found->shape[0] <= INT32_MAX / 4 && found->shape[1] <= INT32_MAX / 4, where, ": matrix '", name, "' is of shape ",
            safetensors::shape_text(found->shape), ", larger than any model's");
    return found->shape;
  };
  ModelConfig c = glm_130b::config;
  const auto &embedding = shape("transformer.word_embeddings.weight"), &up = shape("transformer.layers.0.mlp.dense_h_to_4h.weight");
  c.vocab = static_cast<int>(embedding[0]), c.hidden = static_cast<int>(embedding[1]);
  const std::int64_t packed = stored_bits(reader) == 4 ? 2 : 1;  // weights in a byte
  c.ffn_kind = up[0] == shape("transformer.layers.0.mlp.dense_4h_to_h.weight")[1] * packed ? Ffn::gelu : Ffn::geglu;
  c.ffn = static_cast<int>(up[0]) / (c.ffn_kind == Ffn::geglu ? 2 : 1);
  StoredLayers layers;
  for (const std::string& name : reader.names("transformer.layers.")) layers.add(name);
  c.layers = layers.count();
  const std::string& line = reader.state().model;
  const int said_layers = checkpoint::number_behind("layers ", line), said_heads = checkpoint::number_behind("heads ", line);
  require(said_layers <= 0 || said_layers == c.layers, where, " says that its model has ", said_layers, " layers, and it has tensors of ", c.layers);
  require(heads == 0 || said_heads <= 0 || heads == said_heads, where, " says that its model has ", said_heads, " heads, and ", heads,
          " were given: leave them out, or name the model that it is of");
  c.heads = heads_of(c.hidden, said_heads > 0 ? said_heads : heads, where);
  const std::int64_t rows = shape("transformer.layers.0.attention.query_key_value.weight")[0], key_rows = rows - c.hidden, key_heads = key_rows / 2 / c.head_dim();
  require(key_heads > 0 && key_rows == 2 * key_heads * c.head_dim() && c.heads % key_heads == 0, where, ": ", rows, " rows of 'transformer.layers.0.attention.query_key_value.weight' are no queries, keys and values of ",
          c.heads, " heads of ", c.head_dim(), " dims: the tensor is of another model, or another number of heads was given");
  const int said_key_heads = checkpoint::number_behind("key heads ", line);
  require(said_key_heads <= 0 || said_key_heads == key_heads, where, " says that its model has ", said_key_heads, " key heads, and its tensors have ", key_heads);
  c.kv_heads = key_heads == c.heads ? 0 : static_cast<int>(key_heads);
  return c;
}

namespace checkpoint {

class Doctor {
 public:
  Doctor(const std::string& path, const DoctorOptions& options) : path_(path), options_(options) {}

  /// Empty where the checkpoint is sound. Each byte is read once; pages are let go behind it.
  std::vector<std::string> findings() {
    const auto open = [&] {
      folder_ = find_checkpoint(path_);
      files_ = read_state(folder_).files;
    };
    if (!note(open)) return findings_;
    for (const auto& [name, file] : files_) total_ += file.bytes;
    bool sound = true;
    for (const auto& entry : files_) {
      const std::string& name = entry.first;  // clang 14 captures no structured binding
      const CheckpointFile& file = entry.second;
      const std::string path = folder_ + "/" + name;
      sound &= note([&] { name.ends_with(".safetensors") ? look_at_tensors(path, file) : look_at_bytes(path, file); });
    }
    if (sound) note([&] { look_at_whole(); });  // what files that are not those that were saved say means nothing
    return findings_;
  }

 private:
  void find(std::string sentence) { findings_.push_back(std::move(sentence)); }
  template <class Action>
  bool note(Action action) {
    try {
      action();
      return true;
    } catch (const Error& error) {
      if (stopped_) throw;  // it is none of the checkpoint's faults
      find(error.what());
      return false;
    }
  }

  void read(Sha256& digest, const std::byte* data, std::size_t bytes) {
    digest.update(data, bytes);
    stopped_ = options_.on_progress && !options_.on_progress(done_ += bytes, total_);
    require(!stopped_, "stopped");
  }

  void look_at_bytes(const std::string& path, const CheckpointFile& expected) {
    prove_size(path, expected);
    const MappedFile file(path);
    Sha256 digest;
    read(digest, file.data(), file.size());
    prove_digest(path, digest.hex(), expected);
  }

  /// The digest, and numbers that are none: one finding a tensor.
  void look_at_tensors(const std::string& path, const CheckpointFile& expected) {
    prove_size(path, expected);
    const SafetensorsFile file(path);
    Sha256 digest;
    read(digest, file.head().data(), file.head().size());
    for (const StoredTensor& tensor : file.tensors()) {
      const auto bytes = file.bytes(tensor);
      bool told = false;
      constexpr std::size_t most = 64 << 20;
      for (std::size_t at = 0, piece = 0; at < bytes.size(); at += piece) {
        piece = std::min(most, bytes.size() - at);
        read(digest, bytes.data() + at, piece);
        const std::int64_t index = told ? -1 : first_not_finite(tensor.type, bytes.data() + at, piece);
        if (index >= 0)
          find(sentence("'", path, "': element ", static_cast<std::int64_t>(at) / size_of(tensor.type) + index, " of tensor '",
                        printable(tensor.name), "' is NaN or infinite"));
        told = told || index >= 0;
        file.release(bytes.subspan(at, piece));
      }
    }
    prove_digest(path, digest.hex(), expected);
  }

  /// Slices make whole tensors, of the names, types and shapes that the model has.
  void look_at_whole() {
    const CheckpointReader reader(folder_, {.digests = false}), weights(folder_, {.part = CheckpointPart::model, .digests = false});
    for (const std::string& name : reader.names()) note([&] { reader.check_whole(name); });
    const ModelConfig found_model = checkpoint_model(reader, options_.model ? options_.model->heads : options_.heads), model = options_.model ? *options_.model : found_model;
    const std::vector<std::string> others = differences(found_model, model);
    for (const std::string& difference : others) find(sentence("'", folder_, "' has ", difference));
    if (!others.empty()) return;  // every shape would be another
    const auto stored_group = reader.state().integers.find("quantized.group");
    const std::int64_t group = stored_group == reader.state().integers.end() ? 0 : stored_group->second;
    std::set<std::string> known;
    for (const ReshardedTensor& tensor : resharded_tensors({.config = model, .format = {.bits = stored_bits(reader)}})) {
      const TensorState& wanted = tensor.local;
      known.insert(wanted.name);
      std::vector<std::int64_t> shape = wanted.shape;
      if (group > 0 && tensor.scales) shape.push_back((tensor.parameter.columns - 1) / group + 1);
      const StoredTensor* const found = reader.find(wanted.name);
      if (!found)
        find(sentence("'", folder_, "' has no tensor '", wanted.name, "'"));
      else if (found->shape != shape || (wanted.type == DType::i8 ? found->type != DType::i8 : !is_floating(found->type)))
        find(sentence("'", folder_, "': tensor '", wanted.name, "' is ", name_of(found->type), " ", safetensors::shape_text(found->shape),
                      ", expected ", wanted.type == DType::i8 ? "i8" : "a floating type", " ", safetensors::shape_text(shape)));
    }
    for (const std::string& name : weights.names())
      if (!known.contains(name)) find(sentence("'", folder_, "' has a tensor '", printable(name), "', which this model has not"));
  }

  std::string path_, folder_;
  DoctorOptions options_;
  std::map<std::string, CheckpointFile> files_;
  std::vector<std::string> findings_;
  bool stopped_ = false;
  std::uint64_t done_ = 0, total_ = 0;
};

}  // namespace checkpoint

/// Looks at every byte of a checkpoint of golem's own (or the latest of a run's folder): files that are missing, cut or not those that were saved,
/// NaN and infinity; and where all files are those that were saved, slices that no rank saved, and names, types and shapes that do not fit the
/// model. One sentence for each finding; none where it is sound. Throws Error only where it is stopped.
inline std::vector<std::string> examine_checkpoint(const std::string& path, const DoctorOptions& options = {}) {
  return checkpoint::Doctor(path, options).findings();
}

}  // namespace golem
