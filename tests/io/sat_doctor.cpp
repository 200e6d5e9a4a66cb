// The doctor tells each thing that can be wrong with a released checkpoint, and several at once.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/sat_doctor.hpp"

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "golem/io/pickle_writer.hpp"
#include "golem/io/zip_writer.hpp"
#include "io/files.hpp"
#include "io/findings.hpp"
#include "io/sat_copy.hpp"

using golem::DType;
using test::has, test::one_says, test::sat_golden;

namespace {

struct ExaminedCopy : test::SatCopy {
  std::vector<std::string> findings() const { return golem::examine_sat_checkpoint(path, {.heads = 2}); }
};

/// Offset of an element in a shard's file.
std::size_t place_of(int rank, const std::string& name, std::int64_t element) {
  const golem::SatShard shard(sat_golden + "/49300/" + golem::sat::shard_name(rank));
  const golem::SatTensor& tensor = *shard.find(name);
  return static_cast<std::size_t>(tensor.data + element * size_of(tensor.type) - shard.archive().file().data());
}

void damage(const std::string& path, std::size_t at, const std::string& bytes) {
  std::string file = test::read(path);
  test::write(path, file.replace(at, bytes.size(), bytes));
}

/// A shard of a tiny model, after `change` of its list of tensors.
template <class Change>
void write_shard(const std::string& path, Change change) {
  const golem::SatShard shard(sat_golden + "/49300/" + golem::sat::shard_name(0));
  std::vector<golem::PickleTensor> list;
  for (const auto& [name, tensor] : shard.tensors()) list.push_back({name, tensor.type, tensor.shape});
  change(list);
  golem::ZipWriter writer(path);
  const std::string pickle = golem::format_pickle(list, "a test");
  writer.begin("x/data.pkl", pickle.size()), writer.write(pickle);
  for (std::size_t i = 0; i < list.size(); ++i) {
    std::uint64_t bytes = static_cast<std::uint64_t>(size_of(list[i].type));
    for (const std::int64_t dim : list[i].shape) bytes *= static_cast<std::uint64_t>(dim);
    writer.begin(golem::sentence("x/data/", i), bytes), writer.write(std::string(bytes, '\0'));
  }
  writer.finish();
}

}  // namespace

TEST_CASE("a sound checkpoint has no findings, and every byte of it is looked at") {
  CHECK(golem::examine_sat_checkpoint(sat_golden, {.heads = 2}).empty());
  std::uint64_t last = 0, all = 0;
  const auto on_progress = [&](std::uint64_t done, std::uint64_t total) { return last = done, all = total, all > 0; };
  golem::examine_sat_checkpoint(sat_golden, {.heads = 2, .on_progress = on_progress});
  CHECK((last == all && all > 20000));
  std::uint64_t calls = 0;
  const auto stop = [&](std::uint64_t, std::uint64_t) { return ++calls < 3; };
  CHECK(test::error_of([&] { golem::examine_sat_checkpoint(sat_golden, {.heads = 2, .on_progress = stop}); }) == "stopped");
  CHECK(calls == 3);
  constexpr golem::ModelConfig other = golem::glm_tiny::config;
  CHECK(one_says(golem::examine_sat_checkpoint(sat_golden, {.model = &other}), "has a hidden size of 16, expected 64"));
}

TEST_CASE("missing parts, cut files and damaged bytes are found, all of them in one look") {
  {
    ExaminedCopy copy;
    std::filesystem::remove(copy.shard(0));
    std::filesystem::resize_file(copy.shard(1), 20000);
    const auto findings = copy.findings();
    CHECK(one_says(findings, "lacks mp_rank_00_model_states.pt"));
    CHECK(one_says(findings, "mp_rank_01_model_states.pt' is truncated"));
  }
  {
    ExaminedCopy copy;
    std::filesystem::remove(copy.shard(1));
    CHECK(one_says(copy.findings(), "parts of the checkpoint are missing"));
  }
  {
    ExaminedCopy copy;
    const std::string norm = "transformer.layers.0.input_layernorm.bias", weight = "transformer.layers.1.mlp.dense_h_to_4h.weight";
    damage(copy.shard(0), place_of(0, weight, 7), std::string("\0\x7c", 2));
    damage(copy.shard(1), place_of(1, norm, 3), std::string("\0\x3c", 2));
    const auto findings = copy.findings();
    CHECK(findings.size() == 4);
    CHECK(one_says(findings,
                   golem::sentence("mp_rank_00_model_states.pt': tensor '", weight, "' has NaN or infinity, at offset ", place_of(0, weight, 7))));
    CHECK(one_says(findings, "mp_rank_00_model_states.pt': the bytes of entry"));
    CHECK(one_says(findings, "mp_rank_01_model_states.pt': the bytes of entry"));
    CHECK(one_says(findings, "have different values of 'transformer.layers.0.input_layernorm.bias', which all ranks share"));
  }
  CHECK(one_says(golem::examine_sat_checkpoint(GOLEM_TEST_SOURCE "/tests/golden"), "is no released checkpoint"));
  CHECK(one_says(golem::examine_sat_checkpoint(sat_golden + "/nowhere"), "there is no '" + sat_golden + "/nowhere' to look at"));
  ExaminedCopy copy;
  std::filesystem::copy(sat_golden + "/names_os_system.pt", copy.shard(0), std::filesystem::copy_options::overwrite_existing);
  CHECK(one_says(copy.findings(), "names 'posix.system'"));
}

TEST_CASE("values are compared whatever their strides") {
  const auto tensor = [](const std::vector<std::uint16_t>& values, std::vector<std::int64_t> strides) {
    return golem::SatTensor{DType::f16, {3, 2}, std::move(strides), {3, 2}, reinterpret_cast<const std::byte*>(values.data()), 6};
  };
  std::vector<std::uint16_t> rows{1, 2, 3, 4, 5, 6}, columns{1, 3, 5, 2, 4, 6}, gaps{1, 2, 0, 3, 4, 0, 5, 6};
  const auto same = [&] {
    const golem::SatTensor a = tensor(rows, {2, 1}), b = tensor(columns, {1, 3}), c = tensor(gaps, {3, 1});
    const bool ab = golem::sat::same_values(a, b), bc = golem::sat::same_values(b, c), ca = golem::sat::same_values(c, a);
    CHECK((ab == golem::sat::same_values(b, a) && bc == golem::sat::same_values(c, b) && ca == golem::sat::same_values(a, c)));
    return std::vector<bool>{ab, bc, ca};
  };
  CHECK(same() == std::vector<bool>{true, true, true});
  columns[2] = 9;
  CHECK(same() == std::vector<bool>{false, false, true});
  columns[2] = 5, rows[5] = 9;
  CHECK(same() == std::vector<bool>{false, true, false});
}

TEST_CASE("names and shapes that do not fit are found") {
  const auto findings_of = [](auto change, auto change_other) {
    ExaminedCopy copy;
    write_shard(copy.shard(0), change);
    write_shard(copy.shard(1), change_other);
    return copy.findings();
  };
  const auto nothing = [](std::vector<golem::PickleTensor>&) {};
  CHECK(findings_of(nothing, nothing).empty());
  const auto extra = [](std::vector<golem::PickleTensor>& list) { list.push_back({"transformer.surprise", DType::f16, {2}}); };
  CHECK(one_says(findings_of(extra, extra), "has a tensor 'transformer.surprise', which no GLM has"));
  CHECK(one_says(findings_of(extra, nothing), "has no tensor 'transformer.surprise', and"));
  CHECK(one_says(findings_of(nothing, extra), "has a tensor 'transformer.surprise', and"));
  const auto without = [](std::vector<golem::PickleTensor>& list) {
    std::erase_if(list, [](const auto& t) { return t.name == "transformer.layers.1.attention.dense.bias"; });
  };
  CHECK(one_says(findings_of(without, without), "has no tensor 'transformer.layers.1.attention.dense.bias'"));
  const auto without_norm = [](std::vector<golem::PickleTensor>& list) {
    std::erase_if(list, [](const auto& t) { return t.name == "transformer.layers.1.input_layernorm.weight"; });
  };
  CHECK(one_says(findings_of(without_norm, without_norm), "has no tensor 'transformer.layers.1.input_layernorm.weight'"));
  const auto reshaped = [](std::vector<golem::PickleTensor>& list) {
    for (auto& t : list)
      if (t.name == "transformer.layers.1.attention.dense.bias") t.shape = {17};
  };
  CHECK(one_says(findings_of(reshaped, reshaped), "is f16 (17), expected a floating type (16)"));
  CHECK(one_says(findings_of(nothing, reshaped), "is f16 (17), and in"));
  const auto retyped = [](std::vector<golem::PickleTensor>& list) {
    for (auto& t : list)
      if (t.name == "transformer.layers.1.attention.dense.bias") t.type = DType::i32;
  };
  const auto damaged_too = [&](auto change) {
    ExaminedCopy copy;
    write_shard(copy.shard(0), change), write_shard(copy.shard(1), change);
    const golem::SatShard shard(copy.shard(1));
    const auto place = static_cast<std::size_t>(shard.find("transformer.layers.1.mlp.dense_4h_to_h.bias")->data - shard.archive().file().data());
    damage(copy.shard(1), place, std::string("\0\x7c", 2));
    return copy.findings();
  };
  const auto several = damaged_too([&](std::vector<golem::PickleTensor>& list) { without(list), extra(list); });  // one does not hide the others
  CHECK(one_says(several, "has NaN or infinity"));
  CHECK(one_says(several, "has no tensor 'transformer.layers.1.attention.dense.bias'"));
  CHECK(one_says(several, "has a tensor 'transformer.surprise', which no GLM has"));
  CHECK(one_says(findings_of(retyped, retyped), "is i32 (16), expected a floating type (16)"));
}

TEST_CASE("scales are fp16, one for each row") {
  const auto findings_of = [](DType scales, std::int64_t more) {
    ExaminedCopy copy;
    const auto quantize = [&](std::vector<golem::PickleTensor>& list) {
      std::vector<golem::PickleTensor> all;
      for (golem::PickleTensor t : list) {
        const bool linear = t.shape.size() == 2 && t.name.find("layers") != std::string::npos;
        if (linear) t.type = DType::i8;
        all.push_back(t);
        if (linear) all.push_back({t.name + "_scale", scales, {t.shape[0] + more}});
      }
      list = all;
    };
    write_shard(copy.shard(0), quantize), write_shard(copy.shard(1), quantize);
    return copy.findings();
  };
  CHECK(findings_of(DType::f16, 0).empty());
  CHECK(findings_of(DType::f32, 0).size() == 8);  // four matrices in each of two layers
  CHECK(one_says(findings_of(DType::f32, 0), "tensor 'transformer.layers.1.mlp.dense_4h_to_h.weight_scale' is f32 (16), expected f16 (16)"));
  CHECK(one_says(findings_of(DType::f16, 1), "tensor 'transformer.layers.1.mlp.dense_4h_to_h.weight_scale' is f16 (17), expected f16 (16)"));
}
