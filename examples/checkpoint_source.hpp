// What `checkpoint` reads: a released checkpoint or one of golem's own, whichever lies there, with the model that it is of.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "golem/config/describe.hpp"
#include "golem/config/presets.hpp"
#include "golem/io/checkpoint_doctor.hpp"
#include "golem/io/checkpoint_weights.hpp"
#include "golem/io/sat_weights.hpp"

namespace examples {

/// The presets by name; another one is one more line.
inline golem::ModelConfig preset_named(std::string_view name) {
  if (name == "glm_130b") return golem::glm_130b::config;
  if (name == "glm_10b") return golem::glm_10b::config;
  if (name == "glm_1b") return golem::glm_1b::config;
  if (name == "glm_base") return golem::glm_base::config;
  if (name == "glm_small") return golem::glm_small::config;
  if (name == "glm_tiny") return golem::glm_tiny::config;
  golem::fail("there is no model '", name,
              "' in this program: it knows glm_130b, glm_10b, glm_1b, glm_base, glm_small and glm_tiny; leave --model out to go by the shapes of the "
              "tensors");
}

/// An opened checkpoint.
struct CheckpointSource {
  std::string folder, step;  // of the files; what names it
  int tp = 1, bits = 0;      // that it was saved or quantised for
  golem::DType type = golem::DType::f16;
  golem::ModelConfig model;
  std::string described;  // what a golem checkpoint says of its model, or the preset that was named for it; it goes on with the weights
  std::string content;    // changes when a file does
  std::unique_ptr<golem::SatCheckpoint> sat;
  std::unique_ptr<golem::CheckpointWeights> own;
  std::unique_ptr<golem::TensorSource> weights_of_sat;

  const golem::TensorSource& weights() const { return sat ? *weights_of_sat : *own; }
};

/// Throws Error where a preset has another number of heads than the command line says; 0: nothing.
inline void require_heads(const std::string& preset, int heads) {
  const int own = preset_named(preset).heads;
  golem::require(heads == 0 || heads == own, "--heads ", heads, " was given with --model ", preset, ", which has ", own, ": leave one of them out");
}

/// What is compared with the sums that were written with it when it is first read.
enum class Proof : std::uint8_t { each_file, none };

/// `preset` and `heads` may be left open ("", 0). Throws Error where a preset's sizes are not those of the tensors.
inline CheckpointSource open_checkpoint(const std::string& path, const std::string& preset, int heads, Proof proof = Proof::each_file) {
  CheckpointSource source;
  if (!preset.empty() && heads == 0) heads = preset_named(preset).heads;
  if (golem::is_sat_checkpoint(path)) {
    source.sat = std::make_unique<golem::SatCheckpoint>(path);
    const golem::SatModel model = golem::sat_model(*source.sat, heads);
    source.folder = source.sat->folder(), source.step = source.sat->iteration(), source.tp = source.sat->tp();
    source.bits = model.bits, source.model = model.config, source.content = golem::content_of(*source.sat);
    source.type = source.sat->shard(0).find("transformer.word_embeddings.weight")->type;
    source.weights_of_sat = std::make_unique<golem::SatWeights>(*source.sat, model, model.bits > 0 ? source.tp : 1, 0, golem::SatOptions{.sums = proof != Proof::none});
  } else {
    source.own = std::make_unique<golem::CheckpointWeights>(path, golem::LoadOptions{.digests = proof != Proof::none});
    const golem::CheckpointReader& reader = source.own->reader();
    source.folder = reader.folder(), source.step = golem::sentence(reader.state().step);
    source.model = golem::checkpoint_model(reader, heads);
    source.described = preset.empty() ? reader.state().model : golem::describe(preset_named(preset));
    source.type = reader.find("transformer.word_embeddings.weight")->type;
    source.bits = golem::stored_bits(reader);
    golem::Sha256 files;
    for (const auto& [name, file] : reader.state().files) files.update(file.sha256.data(), file.sha256.size());
    source.content = files.hex();
  }
  if (!preset.empty()) {
    const golem::ModelConfig wanted = preset_named(preset);
    golem::require_model(source.model, wanted, golem::sentence("--model ", preset, ": '", source.folder, "'"));
    require_heads(preset, heads);
    source.model = wanted;
  }
  return source;
}

}  // namespace examples
