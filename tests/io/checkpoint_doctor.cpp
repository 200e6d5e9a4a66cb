// The doctor tells each thing that can be wrong with a checkpoint of golem's own, and several at once.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/checkpoint_doctor.hpp"

#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "catch.hpp"
#include "golem/config/describe.hpp"
#include "golem/config/parameters.hpp"
#include "golem/core/digest.hpp"
#include "golem/io/checkpoint.hpp"
#include "io/files.hpp"
#include "io/findings.hpp"

using test::has, test::one_says;

namespace {

constexpr golem::ModelConfig config =
    golem::glm_130b::config.with([](auto& c) { c.layers = 3, c.hidden = 12, c.heads = 2, c.ffn = 16, c.vocab = 20, c.context = 16; });

/// The weights of a small model, and a moment of one of them.
struct Weights {
  struct Tensor {
    std::vector<std::int64_t> shape;
    std::vector<float> values;
    golem::DType type = golem::DType::f32;
  };
  explicit Weights(const golem::ModelConfig& config = ::config) {
    golem::for_each_parameter(config, golem::whole(config),
                              [&](const golem::Parameter& p, int layer) { put(golem::full_name(p, layer), p.rows, p.columns); });
    put("optimizer.moment1.transformer.word_embeddings.weight", config.vocab, config.hidden);
  }
  void put(const std::string& name, std::int64_t rows, std::int64_t columns) {
    std::vector<std::int64_t> shape{rows};
    if (columns > 0) shape.push_back(columns);
    tensors[name] = {shape, std::vector<float>(static_cast<std::size_t>(rows * (columns > 0 ? columns : 1)), 0.5f), golem::DType::f32};
  }
  void visit_state(golem::StateVisitor& visitor) {
    visitor.integer("quantized.bits", bits);
    visitor.integer("quantized.group", group);
    for (auto& [name, tensor] : tensors) visitor.tensor({name, tensor.type, tensor.shape, tensor.values.data(), tensor.values.size() * 4});
  }
  std::map<std::string, Tensor> tensors;
  std::int64_t bits = 0, group = 0;
};

struct Saved : test::Folder {
  Saved() = default;
  template <class Change>
  explicit Saved(Change change, const std::string& model = "") {
    Weights weights;
    change(weights);
    golem::save(path, 7, weights, {.model = model});
  }
  std::vector<std::string> findings(const golem::DoctorOptions& options = {.heads = 2}) const { return golem::examine_checkpoint(path, options); }
};

const auto nothing = [](Weights&) {};

std::string first_file(const std::string& folder, const std::string& beginning) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.path().filename().string().starts_with(beginning)) return entry.path();
  return {};
}

/// Writes another number in a number's place, as another program may: the digests are right.
void exchange(const std::string& folder, float before, float behind) {
  const auto bytes_of = [](const float& number) { return std::string(reinterpret_cast<const char*>(&number), sizeof number); };
  const std::string path = first_file(folder, "model-00001"), state_path = first_file(folder, "state.json");
  std::string bytes = test::read(path);
  bytes.replace(bytes.find(bytes_of(before)), sizeof behind, bytes_of(behind));
  golem::Sha256 digest;
  digest.update(bytes.data(), bytes.size());
  golem::CheckpointState state = golem::parse_checkpoint_state(test::read(state_path), state_path);
  state.files.at("model-00001-of-00001.safetensors").sha256 = digest.hex();
  test::write(path, bytes), test::write(state_path, golem::format_checkpoint_state(state, state_path));
}

}  // namespace

TEST_CASE("a sound checkpoint of golem's own has no findings, its model is known by its shapes, and every byte is looked at") {
  const Saved saved(nothing);
  const golem::ModelConfig found = golem::checkpoint_model(golem::CheckpointReader(saved.path), 2);
  CHECK((found.layers == 3 && found.hidden == 12 && found.heads == 2 && found.ffn == 16 && found.vocab == 20));
  std::uint64_t last = 0, all = 0;
  const auto on_progress = [&](std::uint64_t done, std::uint64_t total) { return last = done, all = total, true; };
  CHECK(saved.findings({.heads = 2, .on_progress = on_progress}).empty());
  std::uint64_t held = 0;  // in all files that state.json lists
  for (const auto& entry : std::filesystem::recursive_directory_iterator(saved.path))
    if (entry.is_regular_file() && entry.path().extension() != "" && entry.path().filename() != "state.json") held += entry.file_size();
  CHECK((last == all && all == held));
  const auto stop = [](std::uint64_t, std::uint64_t) { return false; };
  CHECK(test::error_of([&] { saved.findings({.heads = 2, .on_progress = stop}); }) == "stopped");
}

TEST_CASE("heads that share keys are in what a checkpoint says of its model") {
  const golem::ModelConfig shared = config.with([](auto& c) { c.heads = 6, c.kv_heads = 2; });
  const auto take = [&](Weights& weights) { weights = Weights(shared); };
  const Saved saved(take, golem::describe(shared)), silent(take, "layers 3, hidden 12, heads 6");
  CHECK(golem::checkpoint_model(golem::CheckpointReader(saved.path)).kv_heads == 2);
  CHECK(saved.findings({}).empty());
  CHECK(saved.findings({.model = &shared}).empty());
  const golem::ModelConfig other = shared.with([](auto& c) { c.kv_heads = 3; });
  CHECK(one_says(saved.findings({.model = &other}), "has key heads 2, expected 3"));
  CHECK(silent.findings({}).empty());
  CHECK(silent.findings({.model = &shared}).empty());
  CHECK(one_says(Saved(take, "layers 3, hidden 12, heads 6, key heads 3").findings({}), "says that its model has 3 key heads, and its tensors have 2"));
  CHECK(one_says(Saved(take, "layers 3, hidden 12, heads 4").findings({}), "20 rows of 'transformer.layers.0.attention.query_key_value.weight' are no queries, keys and values of 4 heads of 3 dims"));
}

TEST_CASE("a block that lacks a tensor is a block still, whichever tensor it is") {
  for (const char* name :
       {"transformer.layers.1.input_layernorm.weight", "transformer.layers.2.input_layernorm.weight", "transformer.final_layernorm.bias"}) {
    const Saved saved([&](Weights& weights) { weights.tensors.erase(name); });
    const std::vector<std::string> findings = saved.findings();
    CHECK(findings.size() == 1);
    CHECK(one_says(findings, golem::sentence("has no tensor '", name, "'")));
  }
}

TEST_CASE("how many blocks there are is what the tensors say, and must be what the checkpoint says") {
  const auto stray = [](Weights& weights) {
    weights.put("transformer.layers.7.input_layernorm.bias", 12, 0), weights.put("transformer.layers.3.junk", 2, 0);
  };
  const std::vector<std::string> findings = Saved(stray).findings();
  CHECK(findings.size() == 2);
  CHECK(one_says(findings, "has a tensor 'transformer.layers.7.input_layernorm.bias', which this model has not"));
  CHECK(one_says(findings, "has a tensor 'transformer.layers.3.junk', which this model has not"));
  const auto without = [](const char* block) {
    return [=](Weights& weights) { std::erase_if(weights.tensors, [&](const auto& tensor) { return tensor.first.starts_with(block); }); };
  };
  CHECK(Saved(without("transformer.layers.1.")).findings().size() == 12);
  const Saved last(without("transformer.layers.2."), "layers 3, hidden 12, heads 2");
  CHECK(last.findings({}).size() == 1);
  CHECK(one_says(last.findings({}), "says that its model has 3 layers, and it has tensors of 2"));
}

TEST_CASE("types are looked at, and bits that golem does not know") {
  const Saved integers([](Weights& weights) {
    for (auto& [name, tensor] : weights.tensors) tensor.type = golem::DType::i32;
  });
  CHECK(one_says(integers.findings(), "tensor 'transformer.final_layernorm.weight' is i32 (12), expected a floating type (12)"));
  const Saved floating([](Weights& weights) { weights.bits = 8; });
  CHECK(one_says(floating.findings(), "tensor 'transformer.layers.0.attention.dense.weight' is f32 (12, 12), expected i8 (12, 12)"));
  for (const std::int64_t bits : {std::int64_t{5}, std::int64_t{-7}, (std::int64_t{1} << 32) + 4})
    CHECK(one_says(Saved([=](Weights& weights) { weights.bits = bits; }).findings(), golem::sentence("says that its weights have ", bits, " bits")));
}

TEST_CASE("scales of groups of columns have a column for each group") {
  const auto scales_of = [](std::int64_t groups) {
    return [=](Weights& weights) { weights.bits = 8, weights.group = 5, weights.put("transformer.layers.0.attention.dense.weight_scale", 12, groups); };
  };
  CHECK(one_says(Saved(scales_of(2)).findings(), "tensor 'transformer.layers.0.attention.dense.weight_scale' is f32 (12, 2), expected a floating type (12, 3)"));
  for (const std::string& finding : Saved(scales_of(3)).findings()) CHECK_FALSE(has(finding, "layers.0.attention.dense.weight_scale"));
}

TEST_CASE("a slice of a tensor larger than any memory is a finding like another") {
  const test::Folder folder;
  float number = 1;
  const golem::TensorState part{"w@00001", golem::DType::f32, {1}, &number, 4};
  golem::AtomicFolder made(folder / "step-00000006");
  golem::CheckpointState state;
  const golem::SliceOf slice{"w", {INT64_MAX / 8}, {.rows = {{0, 1}, {}}, .columns = {0, 1}, .elements = {0, 1}}};
  golem::SafetensorsWriter writer(made.path() + "/model-00001-of-00001.safetensors", {part}, {{"slice:w@00001", golem::format_slice_of(slice, "x")}});
  writer.write(part);
  auto& file = state.files["model-00001-of-00001.safetensors"];
  file.sha256 = writer.finish(), file.bytes = writer.size();
  golem::OutputFile text(made.path() + "/state.json");
  text.write(golem::format_checkpoint_state(state, "x"));
  text.finish();
  made.commit();
  const std::vector<std::string> findings = golem::examine_checkpoint(folder / "step-00000006");
  CHECK(findings.size() == 2);
  CHECK(one_says(findings, "elements of tensor 'w' that are wanted here: no rank saved them"));
}

TEST_CASE("tensors of no model, of other shapes and with numbers that are none are found together") {
  const Saved saved([](Weights& weights) {
    weights.put("transformer.layers.1000000000.input_layernorm.weight", 12, 0);
    weights.put("transformer.layers.1.post_attention_layernorm.bias", 13, 0);
    weights.put("transformer.sur\x1bprise", 2, 0);
    weights.tensors.at("transformer.layers.0.attention.dense.bias").values[3] = 1234.5f;
  });
  exchange(saved.path, 1234.5f, std::numeric_limits<float>::quiet_NaN());
  const std::vector<std::string> findings = saved.findings({.model = &config});
  CHECK(findings.size() == 4);
  CHECK(one_says(findings, "has a tensor 'transformer.layers.1000000000.input_layernorm.weight', which this model has not"));
  CHECK(one_says(findings, "tensor 'transformer.layers.1.post_attention_layernorm.bias' is f32 (13), expected a floating type (12)"));
  CHECK(one_says(findings, "has a tensor 'transformer.sur?prise', which this model has not"));
  CHECK(one_says(findings, "element 3 of tensor 'transformer.layers.0.attention.dense.bias' is NaN or infinite"));
}

TEST_CASE("of another model it is said in what it is another, and not of every tensor") {
  const golem::ModelConfig wider = config.with([](auto& c) { c.hidden = 24, c.layers = 4; });
  const std::vector<std::string> findings = Saved(nothing).findings({.model = &wider});
  CHECK(findings.size() == 2);
  CHECK(one_says(findings, "has a hidden size of 12, expected 24"));
  CHECK(one_says(findings, "has layers 3, expected 4"));
}

TEST_CASE("a file that is altered or gone is a finding, and so is what is no checkpoint, or of another model") {
  for (const char* beginning : {"optimizer-", "model-", "model.safetensors.index.json"}) {
    const Saved saved(nothing);
    const std::string file = first_file(saved.path, beginning);
    std::string bytes = test::read(file);
    bytes[bytes.size() - 2] = static_cast<char>(bytes[bytes.size() - 2] ^ 1);
    test::write(file, bytes);
    CHECK(saved.findings().size() == 1);
    CHECK(one_says(saved.findings(), "is not what was saved: expected SHA-256"));
    std::filesystem::remove(file);
    CHECK(saved.findings().size() == 1);
    CHECK(one_says(saved.findings(), file));
    std::filesystem::remove(first_file(saved.path, "optimizer.safetensors.index.json"));
    CHECK(saved.findings().size() == 2);
  }
  CHECK(Saved().findings().size() == 1);
  const Saved saved([](Weights& weights) { weights.tensors.erase("transformer.layers.0.mlp.dense_h_to_4h.weight"); });
  CHECK(one_says(saved.findings(), "has no matrix 'transformer.layers.0.mlp.dense_h_to_4h.weight': it is no checkpoint of a GLM"));
  const Saved sound(nothing);
  CHECK(one_says(sound.findings({}), "say how many heads the model has"));
  constexpr golem::ModelConfig other = golem::glm_tiny::config;
  CHECK(
      one_says(sound.findings({.model = &other}), "has a vocabulary of 20, expected 512"));
}
