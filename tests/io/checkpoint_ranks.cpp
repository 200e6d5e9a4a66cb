// Checkpoints of many ranks: saved at one layout and loaded at another; files that are missing, foreign or at odds are named.
// SPDX-License-Identifier: Apache-2.0
#include <limits>
#include <map>

#include "catch.hpp"
#include "golem/io/checkpoint.hpp"
#include "golem/io/checkpoint_weights.hpp"
#include "io/files.hpp"
#include "io/rank_state.hpp"

using golem::DType, golem::TensorState;
using test::content, test::error_of, test::has, test::Layout, test::RankState;

namespace {

const std::vector<std::string> fine(8, "no error");

std::vector<std::string> of(const std::vector<std::string>& sentences, int ranks) { return {sentences.begin(), sentences.begin() + ranks}; }

std::vector<std::string> save(const std::string& root, const Layout& layout, std::int64_t step, const golem::CheckpointOptions& more = {}) {
  return test::on_ranks(layout.ranks(), [&](int rank, golem::function_ref<void()> barrier) {
    RankState state(layout, rank, step);
    golem::CheckpointOptions options = more;
    options.rank = rank, options.ranks = layout.ranks(), options.barrier = barrier;
    golem::save(root, step, state, options);
  });
}

std::vector<std::string> load(const std::string& path, const Layout& layout, std::int64_t step) {
  return test::on_ranks(layout.ranks(), [&](int rank, golem::function_ref<void()>) {
    RankState state(layout, rank, step + 50);
    const std::int64_t found = golem::load(path, state, {.ranks = layout.ranks()});
    golem::require(found == step && state == RankState(layout, rank, step), "rank ", rank, " has another state than was saved");
  });
}

/// Writes state.json anew after a change, with its own digest right.
template <class Change>
void change_state(const std::string& folder, const Change& change) {
  golem::CheckpointState state = golem::checkpoint::read_state(folder);
  change(state);
  test::write(folder + "/state.json", golem::format_checkpoint_state(state, "x"));
}

/// The sentence with which one rank of a layout fails to load.
std::string rank_error(const std::string& path, const Layout& layout, int rank) {
  RankState state(layout, rank, 1), before = state;
  const std::string sentence = error_of([&] { golem::load(path, state, {.ranks = layout.ranks()}); });
  if (sentence != "no error") REQUIRE(state == before);
  return sentence;
}

}  // namespace

TEST_CASE("what one layout saved, any other loads") {
  const std::vector<Layout> layouts{{},        {.tp = 2},          {.tp = 2, .dp = 2}, {.dp = 3},
                                    {.tp = 3}, {.dp = 2, .pp = 2}, {.tp = 4},          {.tp = 2, .dp = 2, .pp = 2}};
  for (const Layout& saved : layouts) {
    const test::Folder folder;
    REQUIRE(save(folder.path, saved, 7, {.shard_bytes = 300}) == of(fine, saved.ranks()));
    REQUIRE(golem::files::names_in(folder.path) == std::vector<std::string>{"latest", "step-00000007"});
    for (const Layout& loaded : layouts) {
      INFO("saved at " << saved.tp << " x " << saved.dp << " x " << saved.pp << ", loaded at " << loaded.tp << " x " << loaded.dp << " x "
                       << loaded.pp);
      REQUIRE(load(folder.path, loaded, 7) == of(fine, loaded.ranks()));
    }
  }
}

TEST_CASE("the same layout saves the same bytes again, and one rank's folder has plain names") {
  const test::Folder folder;
  const Layout layout{.tp = 2, .dp = 2};
  REQUIRE(save(folder / "one", layout, 7) == of(fine, 4));
  const auto sentences = test::on_ranks(4, [&](int rank, golem::function_ref<void()> barrier) {
    RankState state(layout, rank, 1);
    golem::load(folder / "one", state, {.ranks = 4});
    golem::save(folder / "two", 7, state, {.rank = rank, .ranks = 4, .barrier = barrier});
  });
  REQUIRE(sentences == of(fine, 4));
  const auto files = content(folder / "two/step-00000007");
  CHECK(files == content(folder / "one/step-00000007"));
  std::vector<std::string> names;
  for (const auto& [name, text] : files) names.push_back(name.substr(0, name.find("-00001-of-00001")));
  CHECK(names == std::vector<std::string>{"model-rank00000", "model-rank00001",  // the second data-parallel rank owns no weights
                                          "model.safetensors.index.json", "optimizer-rank00000", "optimizer-rank00001", "optimizer-rank00002",
                                          "optimizer-rank00003", "state.json"});
  const auto index = nlohmann::json::parse(files.at("model.safetensors.index.json"));
  CHECK(index["weight_map"].size() == 3);
  CHECK(index["weight_map"]["layer.0.norm"] == "model-rank00000-00001-of-00001.safetensors");
  CHECK(index["metadata"]["slices"] == 32);

  REQUIRE(save(folder / "alone", {}, 7) == of(fine, 1));
  const golem::SafetensorsFile alone(folder / "alone/step-00000007/model-00001-of-00001.safetensors");
  CHECK(alone.metadata() == std::map<std::string, std::string>{{"format", "pt"}});
  CHECK(alone.find("layer.2.up")->shape == std::vector<std::int64_t>{22, 3});
}

TEST_CASE("one reader puts slices together, in whatever type it wants") {
  const test::Folder folder;
  REQUIRE(save(folder.path, {.tp = 3, .dp = 2}, 4) == of(fine, 6));
  const golem::CheckpointWeights source(folder.path);
  RankState whole({}, 0, 4);
  CHECK(source.reader().names("layer.0.") ==
        std::vector<std::string>{"layer.0.dense", "layer.0.norm", "layer.0.qkv", "layer.0.qkv_bias", "layer.0.up", "layer.0.up_bias"});
  for (auto& tensor : whole.tensors) {
    if (tensor.name.starts_with("optimizer.")) continue;
    CHECK(source.reader().find(tensor.name)->shape == tensor.shape);
    CHECK(source.reader().find(tensor.name)->bytes() == tensor.memory.size());
    auto read = tensor;
    std::fill(read.memory.begin(), read.memory.end(), std::byte{});
    source.read(RankState::state_of(read));
    CHECK(read == tensor);
    std::vector<double> wide(tensor.memory.size() / static_cast<std::size_t>(golem::size_of(tensor.type)));
    source.read({tensor.name, DType::f64, tensor.shape, wide.data(), wide.size() * 8});
    for (std::size_t i = 0; tensor.type == DType::bf16 && i < wide.size(); ++i) {
      golem::bfloat16 number;
      std::memcpy(&number, tensor.memory.data() + 2 * i, 2);
      REQUIRE(wide[i] == static_cast<double>(number));
    }
  }
  CHECK(source.reader().bytes("layer.0.norm").size() == 20);
  CHECK(has(error_of([&] { source.reader().bytes("embedding"); }),
            "tensor 'embedding' of the checkpoint '" + source.reader().folder() + "' was saved in 3 slices"));
  float column[10]{};  // of a slice, and of another type than it was saved in
  source.read({"layer.0.dense", DType::f32, {5, 7}, column, 40, golem::Slice{{{0, 5}, {}}, {3, 2}, {0, 10}}});
  CHECK(column[9] == column[0] + 4 * 7 + 1);
}

TEST_CASE("a rank's file that is missing, altered or of another save is named by those who need it") {
  const test::Folder folder;
  const Layout layout{.tp = 2, .dp = 2};
  REQUIRE(save(folder / "a", layout, 7) == of(fine, 4));
  REQUIRE(save(folder / "b", layout, 8) == of(fine, 4));
  const std::string path = folder / "a/step-00000007", name = "/optimizer-rank00003-00001-of-00001.safetensors", whole = test::read(path + name);
  test::write(path + name, test::read(folder / ("b/step-00000008" + name)));
  REQUIRE(test::read(path + name).size() == whole.size());
  CHECK(has(rank_error(path, layout, 3), "'" + path + name + "' is not what was saved: expected SHA-256 "));
  CHECK(has(rank_error(path, {}, 0), name));
  CHECK(rank_error(path, layout, 0) == "no error");  // it reads no byte of that file
  std::filesystem::remove(path + name);
  CHECK(has(rank_error(path, layout, 0), "cannot open '" + path + name + "': No such file"));
  test::write(path + name, whole.substr(1));
  CHECK(has(rank_error(path, layout, 0), golem::sentence("expected ", whole.size(), " bytes, found ", whole.size() - 1)));
  test::write(path + name, whole);
  CHECK(load(path, layout, 7) == of(fine, 4));
}

TEST_CASE("elements that nobody saved, or two did, are found at loading") {
  const test::Folder folder;
  const Layout layout{.tp = 2, .dp = 2};
  REQUIRE(save(folder / "a", layout, 7) == of(fine, 4));
  REQUIRE(save(folder / "b", {.tp = 3}, 7) == of(fine, 3));
  const std::string path = folder / "a/step-00000007", second = "model-rank00001-00001-of-00001.safetensors",
                    third = "model-rank00002-00001-of-00001.safetensors";
  change_state(path, [&](golem::CheckpointState& state) { state.files.erase(second); });
  CHECK(has(rank_error(path, layout, 1), "the checkpoint '" + path + "' lacks 35 of the 35 elements of tensor 'embedding' that are wanted here"));
  CHECK(has(rank_error(path, {.tp = 3}, 1), "lacks 10 of the 20 elements of tensor 'embedding'"));
  CHECK(rank_error(path, layout, 0) == "no error");

  REQUIRE(save(folder / "a", layout, 7) == of(fine, 4));
  std::filesystem::copy(folder / ("b/step-00000007/" + third), path + "/" + third);
  const auto foreign = golem::checkpoint::read_state(folder / "b/step-00000007").files.at(third);
  change_state(path, [&](golem::CheckpointState& state) { state.files[third] = foreign; });
  CHECK(has(rank_error(path, layout, 1),
            "'" + path + "/" + second + "' and '" + path + "/" + third + "' both have elements of tensor 'embedding': one of them is wrong"));
}

TEST_CASE("files that say different things of one tensor, or of a slice in them, are refused") {
  const test::Folder folder;
  REQUIRE(save(folder.path, {.tp = 2}, 7) == of(fine, 2));
  const std::string path = folder / "step-00000007", name = "model-rank00009-00001-of-00001.safetensors";
  const auto error_with = [&](const TensorState& tensor, const std::map<std::string, std::string>& metadata) {
    golem::SafetensorsWriter writer(path + "/" + name, {tensor}, metadata);
    writer.write(tensor);
    const std::string digest = writer.finish();
    change_state(path, [&](golem::CheckpointState& state) { state.files[name] = {writer.size(), digest}; });
    return rank_error(path, {}, 0);
  };
  float memory[20]{};
  const auto slice = [](const std::vector<std::int64_t>& shape) {
    return golem::format_slice_of({"embedding", shape, {{{0, 3}, {}}, {0, 5}, {0, 15}}}, "x");
  };
  const std::string where = "'" + path + "/" + name + "', tensor 'embedding@9': ", key = "slice:embedding@9";
  const TensorState floats{"embedding@9", DType::f32, {3, 5}, memory, 60}, halves{"embedding@9", DType::f16, {3, 5}, memory, 30};
  CHECK(has(error_with(floats, {{key, slice({14, 5})}}),
            where + "tensor 'embedding' is f32 (14, 5) here, but f32 (13, 5) in '" + path + "/model-rank00000"));
  CHECK(has(error_with(halves, {{key, slice({13, 5})}}), where + "tensor 'embedding' is f16 (13, 5) here, but f32 (13, 5) in '"));
  CHECK(has(error_with({"embedding@9", DType::f32, {15}, memory, 60}, {{key, slice({13, 5})}}),
            where + "it is of shape (15), but the slice of 'embedding' that it is said to be has shape (3, 5)"));
  CHECK(has(error_with(floats, {{key, slice({2, 5})}}), where + "its slice has rows beyond the 2 of the tensor"));
  CHECK(has(error_with(floats, {{key, "{"}}), where + "no valid JSON"));
  CHECK(has(error_with(floats, {{key, slice({13, 5})}}), "both have elements of tensor 'embedding'"));
  CHECK(has(error_with(floats, {}), "has the tensor 'embedding@9', which this state does not"));
  CHECK(has(error_with({"embedding", DType::f32, {13, 5}, std::vector<float>(65).data(), 260}, {}), "both have elements of tensor 'embedding'"));
}

TEST_CASE("weights alone load at another layout, without the optimizer's files") {
  const test::Folder folder;
  REQUIRE(save(folder.path, {.tp = 2, .dp = 2}, 7) == of(fine, 4));
  for (const std::string& name : golem::files::names_in(folder / "step-00000007"))
    if (name.starts_with("optimizer")) std::filesystem::remove(folder / ("step-00000007/" + name));
  RankState state({.tp = 3}, 1, 8), saved({.tp = 3}, 1, 7), before({.tp = 3}, 1, 8);
  CHECK(golem::load_weights(folder.path, state, {.ranks = 3}) == 7);
  for (std::size_t i = 0; i < state.tensors.size(); ++i)
    CHECK(state.tensors[i] == (state.tensors[i].name.starts_with("optimizer.") ? before : saved).tensors[i]);
}

TEST_CASE("ranks that disagree on a tensor, or on who saves it, do not save") {
  const test::Folder folder;
  std::vector<float> memory(15, 1.0f);
  const auto save_two = [&](const TensorState& zero, const TensorState& one) {
    struct Single {
      TensorState tensor;
      void visit_state(golem::StateVisitor& visitor) { visitor.tensor(tensor); }
    };
    const auto sentences = test::on_ranks(2, [&](int rank, golem::function_ref<void()> barrier) {
      Single state{rank == 0 ? zero : one};
      golem::save(folder.path, 3, state, {.rank = rank, .ranks = 2, .barrier = barrier});
    });
    CHECK(sentences[0] == sentences[1]);
    return sentences[0];
  };
  const auto rows = [&](std::int64_t begin, std::int64_t count, bool owned) {
    return TensorState{
        "w",  DType::f32, {5, 3}, memory.data(), static_cast<std::size_t>(count * 12), golem::Slice{{{begin, count}, {}}, {0, 3}, {0, count * 3}},
        owned};
  };
  const std::string where = "the checkpoint of step 3 was not saved in '" + folder.path + "': ";
  CHECK(save_two(rows(0, 3, true), rows(2, 3, true)) ==
        where + "rank 0 and rank 1 both save elements of tensor 'w': of ranks that hold the same, one must own it");
  CHECK(has(save_two(rows(0, 3, true), rows(3, 1, true)), "of the 15 elements of tensor 'w', which rank 0 has a part of, 3 are saved by no rank"));
  CHECK(has(save_two(rows(0, 5, false), rows(0, 5, false)), "15 are saved by no rank"));
  TensorState other = rows(3, 2, true);
  other.shape = {6, 3};
  CHECK(has(save_two(rows(0, 3, true), other), "tensor 'w' is f32 (5, 3) on rank 0, but f32 (6, 3) on rank 1"));
  CHECK(golem::files::names_in(folder.path) == std::vector<std::string>{".step-00000003.partial"});
  CHECK(save_two(rows(0, 3, true), rows(3, 2, true)) == "no error");
  CHECK(golem::files::names_in(folder.path) == std::vector<std::string>{"latest", "step-00000003"});

  TensorState wrong = rows(3, 2, true);
  wrong.bytes = 23;
  CHECK(has(save_two(rows(0, 3, true), wrong), "rank 1: cannot save tensor 'w': it has 23 bytes, but its shape, slice and type make 24"));
}

TEST_CASE("a damaged file of a rank gives an error, or what was saved, even where nobody compares digests") {
  const test::Folder folder;
  const Layout layout{.tp = 2, .dp = 2, .layers = 1}, alone{.layers = 1};
  REQUIRE(save(folder.path, layout, 7) == of(fine, 4));
  const std::string path = folder / "step-00000007", file = "model-rank00001-00001-of-00001.safetensors", whole = test::read(path + "/" + file);
  std::uint64_t header = 0;
  std::memcpy(&header, whole.data(), 8);
  const RankState saved(alone, 0, 7);
  test::Dice dice(131);
  int loaded = 0;
  for (int i = 0; i < 600; ++i) {
    const std::string damaged =
        whole.substr(0, 8) + test::mutated(whole.substr(8, header), dice).append(header, ' ').substr(0, header) + whole.substr(8 + header);
    test::write(path + "/" + file, damaged);
    RankState state(alone, 0, 8), before = state;
    REQUIRE((error_of([&] { golem::load(path, state, {}); }) == "no error") == (damaged == whole));
    REQUIRE(state == (damaged == whole ? saved : before));
    if (error_of([&] { golem::load(path, state, {.digests = false}); }) != "no error") {
      REQUIRE(state == before);
      continue;
    }
    ++loaded;  // with other names in places of no meaning, or other spaces
    for (std::size_t k = 0; k < state.tensors.size(); ++k) REQUIRE(state.tensors[k].memory.size() == saved.tensors[k].memory.size());
  }
  CHECK(loaded > 10);
  CHECK(loaded < 300);
}
