// quantize: a checkpoint's linear weights to INT8 or INT4, into a new checkpoint for inference.
// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "golem/config/parameters.hpp"
#include "golem/config/presets.hpp"
#include "golem/io/checkpoint.hpp"
#include "golem/io/checkpoint_weights.hpp"
#include "golem/quant/absmax.hpp"
#include "golem/quant/search.hpp"

namespace {

struct Options {
  std::string from, to;
  int bits = 8, group = 0;
  bool search = false;
};

// "transformer.layers.3.mlp.dense_4h_to_h.weight": whether the one list of parameters says that it is quantised.
bool is_quantized(const std::string& name) {
  for (const golem::Parameter& parameter : golem::block_parameters(golem::glm_tiny::config))
    if (parameter.quantized && name.ends_with(std::string(".") + parameter.name)) return true;
  return false;
}

// Memory of the tensors of the new checkpoint, until it is written.
struct Tensors {
  std::deque<std::vector<char>> memory;
  std::vector<golem::TensorState> list;

  void* add(const std::string& name, golem::DType type, const std::vector<std::int64_t>& shape) {
    std::size_t bytes = static_cast<std::size_t>(golem::size_of(type));
    for (const std::int64_t extent : shape) bytes *= static_cast<std::size_t>(extent);
    memory.emplace_back(bytes);
    list.push_back({.name = name, .type = type, .shape = shape, .data = memory.back().data(), .bytes = bytes});
    return memory.back().data();
  }
};

template <golem::Quant Q>
golem::QuantizationReport quantize_matrix(Tensors& tensors, const golem::CheckpointWeights& source, const golem::StoredTensor& stored, bool search) {
  const std::int64_t rows = stored.shape[0], columns = stored.shape[1];
  std::vector<float> plain(static_cast<std::size_t>(rows * columns));
  source.read({.name = stored.name, .type = golem::DType::f32, .shape = stored.shape, .data = plain.data(), .bytes = plain.size() * sizeof(float)});
  void* bytes = tensors.add(stored.name, golem::DType::i8, {rows, Q.row_bytes(columns)});
  std::vector<std::int64_t> scale_shape{rows};
  if (Q.group != 0) scale_shape.push_back(Q.groups(columns));
  void* scales = tensors.add(stored.name + "_scale", golem::DType::f16, scale_shape);
  const golem::QuantizedView<Q, std::uint8_t> to(rows, columns, static_cast<std::uint8_t*>(bytes), static_cast<golem::float16*>(scales));
  const golem::View<float, 2> weights{plain.data(), rows, columns};
  return search ? golem::quantize<golem::SearchedScale>(to, weights) : golem::quantize(to, weights);
}

using QuantizeMatrix = golem::QuantizationReport (*)(Tensors&, const golem::CheckpointWeights&, const golem::StoredTensor&, bool);

// The formats that this program was built for; another one is one more line.
QuantizeMatrix pick(int bits, int group) {
  if (bits == 8 && group == 0) return quantize_matrix<golem::Quant{.bits = 8}>;
  if (bits == 8 && group == 128) return quantize_matrix<golem::Quant{.bits = 8, .group = 128}>;
  if (bits == 4 && group == 0) return quantize_matrix<golem::Quant{.bits = 4}>;
  if (bits == 4 && group == 32) return quantize_matrix<golem::Quant{.bits = 4, .group = 32}>;
  if (bits == 4 && group == 64) return quantize_matrix<golem::Quant{.bits = 4, .group = 64}>;
  if (bits == 4 && group == 128) return quantize_matrix<golem::Quant{.bits = 4, .group = 128}>;
  golem::fail("quantize was built for 8 bits in groups of 0 or 128 and for 4 bits in groups of 0, 32, 64 or 128, not for ", bits, " bits in groups of ", group,
              ": add a line to pick() in examples/quantize.cpp");
}

// Throws Error where --out has checkpoints, but such as this program made: the one that is quantised would be replaced where --out is its own run, and the
// run's `latest` name what no training can go on from.
void require_no_checkpoints(const std::string& folder) {
  const bool taken = std::filesystem::exists(folder + "/latest") || std::filesystem::exists(folder + "/state.json") ||
                     (golem::files::is_folder(folder) && !golem::checkpoint::saved_steps(folder).empty());
  golem::require(!taken || golem::checkpoint::read_state(golem::find_checkpoint(folder)).integers.contains("quantized.bits"), "--out '", folder, "' has a checkpoint of another kind already, which is not replaced: name a folder of its own for the new one, or move that one away");
}

void run(const Options& options) {
  require_no_checkpoints(options.to);
  const QuantizeMatrix quantize_matrix = pick(options.bits, options.group);
  const golem::CheckpointWeights source(options.from);
  const golem::CheckpointReader& reader = source.reader();
  Tensors tensors;
  golem::QuantizationReport report;
  std::uint64_t bytes_before = 0, bytes_after = 0;
  for (const std::string& name : reader.names())
    golem::require(!name.ends_with("_scale"), "'", reader.folder(), "' is quantised already: quantise the checkpoint that it was made from");
  for (const std::string& name : reader.names()) {
    const golem::StoredTensor& stored = *reader.find(name);
    bytes_before += stored.bytes();
    if (is_quantized(name)) {
      report += quantize_matrix(tensors, source, stored, options.search);
    } else {
      void* memory = tensors.add(name, stored.type, stored.shape);
      source.read({.name = name, .type = stored.type, .shape = stored.shape, .data = memory, .bytes = static_cast<std::size_t>(stored.bytes())});
    }
  }
  for (const golem::TensorState& tensor : tensors.list) bytes_after += tensor.bytes;
  golem::CheckpointContents contents{.state = {}, .tensors = tensors.list};
  contents.state.texts = reader.state().texts;
  contents.state.integers["quantized.bits"] = options.bits;
  contents.state.integers["quantized.group"] = options.group;
  const std::string folder = golem::write_checkpoint(options.to, reader.state().step, std::move(contents), {.model = reader.state().model});
  std::printf("%s\n", nlohmann::json{{"job", "quantize"},
                                     {"from", reader.folder()},
                                     {"to", folder},
                                     {"bits", options.bits},
                                     {"group", options.group},
                                     {"weights", report.weights},
                                     {"signal_to_noise_db", report.signal_to_noise()},
                                     {"clamped", report.clamped},
                                     {"bytes_before", bytes_before},
                                     {"bytes_after", bytes_after}}
                          .dump()
                          .c_str());
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Quantises the four linear weights of each block of a golem checkpoint; embedding, norms and biases stay as they are.");
  app.add_option("checkpoint", options.from, "a checkpoint's folder, or a run's folder (then its latest)")->required();
  app.add_option("--out", options.to, "folder of the new checkpoint; one that has others than quantised ones is refused")->required();
  app.add_option("--bits", options.bits, "bits of a weight: 8 or 4")->capture_default_str();
  app.add_option("--group", options.group, "columns that share a scale; 0: the whole row, GLM-130B's format")->capture_default_str();
  app.add_flag("--search", options.search, "choose each scale for the least squared error, not by the largest weight");
  CLI11_PARSE(app, argc, argv);
  try {
    run(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "quantize: %s\n", error.what());
    return 1;
  }
}
