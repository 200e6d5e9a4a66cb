// The doctor of golem's own checkpoints: which model they hold, and all that is wrong with them, each in one sentence.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "golem/config/presets.hpp"
#include "golem/core/error.hpp"
#include "golem/core/number.hpp"
#include "golem/core/slice.hpp"
#include "golem/core/stateful.hpp"
#include "golem/io/checkpoint_reader.hpp"
#include "golem/io/doctor_options.hpp"
#include "golem/io/printable.hpp"
#include "golem/io/reshard.hpp"
#include "golem/io/safetensors.hpp"
#include "golem/io/stored_layers.hpp"

namespace golem {

/// An integer of a checkpoint's state; 0 where it has none of that name.
inline std::int64_t stored_integer(const CheckpointReader& reader, std::string_view name) {
  const auto found = reader.state().integers.find(std::string(name));
  return found == reader.state().integers.end() ? 0 : found->second;
}

/// The sizes of a checkpoint's model, by its shapes, and its heads by what it says of itself; where it says nothing, `heads`, or 0 for GLM-130B's
/// 128 dims each. The rest is GLM-130B's. Throws Error where the shapes are those of no model, or its heads are others than `heads`.
inline ModelConfig checkpoint_model(const CheckpointReader& reader, int heads = 0) {
  const auto shape = [&](std::string_view name) -> const std::vector<std::int64_t>& {
    const StoredTensor* const found = reader.find(name);
    require(found && found->shape.size() == 2, "'", reader.folder(), "' has no matrix '", name, "': it is no checkpoint of a GLM");
    require(found->shape[0] <= INT32_MAX / 4 && found->shape[1] <= INT32_MAX / 4, "'", reader.folder(), "': matrix '", name, "' is of shape ",
            safetensors::shape_text(found->shape), ", larger than any model's");
    return found->shape;
  };
  ModelConfig c = glm_130b::config;
  const auto &embedding = shape("transformer.word_embeddings.weight"), &up = shape("transformer.layers.0.mlp.dense_h_to_4h.weight");
  c.vocab = static_cast<int>(embedding[0]), c.hidden = static_cast<int>(embedding[1]);
  const std::int64_t packed = stored_integer(reader, "quantized.bits") == 4 ? 2 : 1;  // weights in a byte
  c.ffn_kind = up[0] == shape("transformer.layers.0.mlp.dense_4h_to_h.weight")[1] * packed ? Ffn::gelu : Ffn::geglu;
  c.ffn = static_cast<int>(up[0]) / (c.ffn_kind == Ffn::geglu ? 2 : 1);
  StoredLayers layers;
  for (const std::string& name : reader.names("transformer.layers.")) layers.add(name);
  c.layers = layers.count();
  const std::string& text = reader.state().model;
  int said = 0;
  if (const auto at = text.find("heads "); at != std::string::npos) std::from_chars(text.data() + at + 6, text.data() + text.size(), said);
  require(heads == 0 || said == 0 || heads == said, "'", reader.folder(), "' says that its model has ", said, " heads, and ", heads,
          " were given: leave them out, or name the model that it is of");
  if (said > 0) heads = said;
  c.heads = heads > 0 ? heads : c.hidden / 128;
  require(c.heads > 0 && c.hidden % c.heads == 0, "'", reader.folder(), "': a hidden size of ", c.hidden, " cannot be cut into ", c.heads,
          " heads: say how many heads the model has");
  return c;
}

namespace checkpoint {

/// Digests and every number, in slices: one finding a tensor. Pages are let go behind it.
inline void look_at_numbers(const CheckpointReader& reader, const DoctorOptions& options, std::vector<std::string>& findings) {
  std::uint64_t total = 0, done = 0;
  for (const std::string& name : reader.names()) total += reader.find(name)->bytes();
  for (const std::string& name : reader.names()) {
    const StoredTensor& tensor = *reader.find(name);
    const Slice whole = whole_slice(matrix_extent(tensor.shape, name));
    const std::int64_t all = whole.size(), most = (std::int64_t{64} << 20) / size_of(tensor.type);
    for (std::int64_t at = 0; at < all; at += most) {
      TensorState part{.name = name, .type = tensor.type, .shape = tensor.shape, .slice = whole};
      part.slice->elements = {at, std::min(most, all - at)};
      part.bytes = static_cast<std::size_t>(part.slice->size() * size_of(tensor.type));
      try {
        reader.check(part);
      } catch (const Error& error) {
        findings.push_back(error.what());
        at = all;
      }
      reader.release(part);
      require(!options.on_progress || options.on_progress(done += part.bytes, total), "stopped");
    }
  }
}

/// Names and shapes of the weights are those of the model. Scales of groups of columns have shapes that only their engine knows.
inline void look_at_model(const CheckpointReader& reader, const DoctorOptions& options, std::vector<std::string>& findings) {
  const ModelConfig model = options.model ? *options.model : checkpoint_model(reader, options.heads);
  const bool groups = stored_integer(reader, "quantized.group") > 0;
  std::set<std::string> known;
  for (const ReshardedTensor& tensor :
       resharded_tensors({.config = model, .format = {.bits = static_cast<int>(stored_integer(reader, "quantized.bits"))}})) {
    const std::string& name = tensor.local.name;
    known.insert(name);
    const StoredTensor* const found = reader.find(name);
    if (!found)
      findings.push_back(sentence("'", reader.folder(), "' has no tensor '", name, "'"));
    else if (found->shape != tensor.local.shape && !(groups && tensor.scales))
      findings.push_back(sentence("'", reader.folder(), "': tensor '", name, "' is of shape ", safetensors::shape_text(found->shape), ", expected ",
                                  safetensors::shape_text(tensor.local.shape)));
  }
  const CheckpointReader weights(reader.folder(), {.part = CheckpointPart::model, .digests = false});  // not the optimizer's
  for (const std::string& name : weights.names())
    if (!known.contains(name)) findings.push_back(sentence("'", reader.folder(), "' has a tensor '", printable(name), "', which this model has not"));
}

}  // namespace checkpoint

/// Looks at every byte of a checkpoint of golem's own (or the latest of a run's folder): files that are missing, cut or not those that were saved,
/// slices that no rank saved, NaN and infinity, names and shapes that do not fit the model. One sentence for each finding; none where it is sound.
/// Throws Error only where it is stopped.
inline std::vector<std::string> examine_checkpoint(const std::string& path, const DoctorOptions& options = {}) {
  std::vector<std::string> findings;
  bool stopped = false;
  auto on_progress = [&](std::uint64_t done, std::uint64_t total) { return !(stopped = options.on_progress && !options.on_progress(done, total)); };
  DoctorOptions watched = options;
  watched.on_progress = on_progress;
  try {
    const CheckpointReader reader(path);
    checkpoint::look_at_numbers(reader, watched, findings);
    checkpoint::look_at_model(reader, watched, findings);
  } catch (const Error& error) {
    if (stopped) throw;  // it is none of the checkpoint's faults
    findings.push_back(error.what());
  }
  return findings;
}

}  // namespace golem
