// Checkpoints: saved and loaded exactly; whatever does not fit is refused, with the state as it was.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/checkpoint.hpp"

#include <cmath>
#include <limits>

#include "catch.hpp"
#include "io/files.hpp"
#include "io/run_state.hpp"

using golem::CheckpointPart, golem::DType;
using test::error_of, test::has, test::RunState;

namespace {

/// A state of any visit, for the ways in which states differ.
template <class Body>
struct Visit {
  Body visit;
  void visit_state(golem::StateVisitor& visitor) { visit(visitor); }
};

template <class Body>
std::string load_error(const std::string& path, Body body, const golem::LoadOptions& options = {}) {
  Visit<Body> state{body};
  return error_of([&] { golem::load(path, state, options); });
}

}  // namespace

TEST_CASE("a checkpoint gives back the state that was saved") {
  const test::Folder folder;
  RunState saved(7), other(1);
  const std::string path = golem::save(folder / "run", 7, saved, {.model = "tiny", .shard_bytes = 64});
  CHECK(path == folder / "run/step-00000007");
  CHECK(test::read(folder / "run/latest") == "step-00000007\n");
  CHECK(golem::load(folder / "run", other, {.model = "tiny"}) == 7);
  CHECK(other == saved);
  RunState again;
  CHECK(golem::load(path + "/", again) == 7);
  CHECK(again == saved);

  // One tensor a file, since 64 bytes hold no two; the optimizer's apart.
  CHECK(golem::files::names_in(path) == std::vector<std::string>{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                                                                 "model.safetensors.index.json", "optimizer-00001-of-00001.safetensors",
                                                                 "optimizer.safetensors.index.json", "state.json"});
  const auto index = nlohmann::json::parse(test::read(path + "/model.safetensors.index.json"));
  CHECK(index["metadata"]["total_size"] == 74);
  CHECK(index["weight_map"]["block.0.bias"] == "model-00002-of-00002.safetensors");
}

TEST_CASE("weights load alone, without the optimizer's files, and tensor by tensor") {
  const test::Folder folder;
  RunState saved(9), other(2);
  const std::string path = golem::save(folder.path, 9, saved);
  std::filesystem::remove(path + "/optimizer-00001-of-00001.safetensors");
  std::filesystem::remove(path + "/optimizer.safetensors.index.json");
  CHECK(golem::load_weights(folder.path, other) == 9);
  CHECK(other.weight == saved.weight);
  CHECK(other.bias == saved.bias);
  CHECK(other.moment == RunState(2).moment);
  CHECK(other.step == 2);
  CHECK(has(error_of([&] { golem::load(folder.path, other); }), "optimizer-00001-of-00001.safetensors': No such file"));

  const golem::CheckpointReader reader(path, {.part = CheckpointPart::model});
  CHECK(reader.names("block.0.w") == std::vector<std::string>{"block.0.weight"});
  CHECK(reader.find("block.0.weight")->shape == std::vector<std::int64_t>{3, 5});
  CHECK(std::memcmp(reader.bytes("block.0.weight").data(), saved.weight.data(), 60) == 0);
  CHECK(has(error_of([&] { reader.bytes("head"); }), "has no tensor 'head'"));
}

TEST_CASE("a checkpoint of another state is refused, and the state stays as it was") {
  const test::Folder folder;
  RunState saved(4), other(1), larger(1, 4);
  const std::string path = golem::save(folder.path, 4, saved, {.model = "glm 12 layers"});
  CHECK(has(error_of([&] { golem::load(path, other, {.model = "glm 13 layers"}); }), "it says 'glm 12 layers', and this is 'glm 13 layers'"));
  CHECK(has(error_of([&] { golem::load(path, larger); }), "'block.0.weight' of the checkpoint '" + path + "' is f32 (3, 5), expected f32 (4, 5)"));
  CHECK(larger == RunState(1, 4));
  CHECK(has(error_of([&] { golem::load(folder / "none", other); }), "there is no such folder"));

  float one = 0;
  std::int64_t number = 0;
  CHECK(has(load_error(path, [&](golem::StateVisitor& v) { v.tensor({"head", DType::f32, {1}, &one, 4}); }), "has no tensor 'head' of shape (1)"));
  CHECK(has(load_error(path, [&](golem::StateVisitor& v) { v.integer("samples", number); }), "has no integer 'samples'"));
  const auto fewer = [&](golem::StateVisitor& v) {
    v.integer("step", other.step);
    v.text("note", other.note);
    v.tensor({"block.0.weight", DType::f32, {3, 5}, other.weight.data(), 60});
  };
  CHECK(has(load_error(path, fewer), "has the tensor 'block.0.bias', which this state does not"));
  CHECK(has(load_error(path,
                       [&](golem::StateVisitor& v) {
                         v.tensor({"block.0.bias", DType::f16, {7}, &one, 14});
                       }),
            "is bf16 (7), expected f16 (7)"));
  const auto doubled = [&](golem::StateVisitor& v) { v.integer("n", number), v.integer("n", number); };
  Visit<decltype(doubled)> twice{doubled};
  CHECK(has(error_of([&] { golem::save(folder.path, 5, twice); }), "two values of the name 'n'"));
  CHECK(other == RunState(1));
  const auto refuses = [&](golem::StateVisitor& v) {
    other.visit_state(v);
    golem::require(other.step < 3, "step ", other.step, " is beyond this run");
  };
  CHECK(has(load_error(path, refuses), "step 4 is beyond this run"));
  CHECK(other == RunState(1));
}

TEST_CASE("altered, truncated and missing files are named, with what was expected and found") {
  const test::Folder folder;
  RunState saved(4), other(1);
  const std::string path = golem::save(folder.path, 4, saved), shard = path + "/model-00001-of-00001.safetensors", whole = test::read(shard);
  std::string altered = whole;
  altered.back() = static_cast<char>(altered.back() ^ 1);
  test::write(shard, altered);
  const std::string sentence = error_of([&] { golem::load(path, other); });
  CHECK(has(sentence, shard));
  CHECK(has(sentence, "expected SHA-256 " + golem::sha256_hex(whole.data(), whole.size())));
  CHECK(has(sentence, "found " + golem::sha256_hex(altered.data(), altered.size())));
  test::write(shard, whole.substr(0, whole.size() - 3));
  CHECK(has(error_of([&] { golem::load(path, other, {.digests = false}); }),
            golem::sentence("expected ", whole.size(), " bytes, found ", whole.size() - 3)));
  test::write(shard, whole);
  std::filesystem::remove(path + "/state.json");
  CHECK(has(error_of([&] { golem::load(path, other); }), "neither state.json nor a folder"));
  CHECK(has(error_of([&] { golem::load(folder.path, other); }), "state.json"));
  CHECK(other == RunState(1));
}

TEST_CASE("NaN and infinity are neither saved nor loaded") {
  const test::Folder folder;
  RunState saved(4), sick(5), other(1);
  golem::save(folder.path, 4, saved);
  sick.weight[8] = std::nanf("");
  CHECK(has(error_of([&] { golem::save(folder.path, 5, sick); }), "element 8 of tensor 'block.0.weight' is NaN"));
  CHECK(golem::load(folder.path, other) == 4);

  float pair[2]{0, std::numeric_limits<float>::infinity()};  // as another program may have written it
  const golem::TensorState tensor{"w", DType::f32, {2}, pair, 8};
  golem::AtomicFolder made(folder / "step-00000006");
  golem::CheckpointState state;
  golem::SafetensorsWriter writer(made.path() + "/model-00001-of-00001.safetensors", {tensor});
  writer.write(tensor);
  state.files["model-00001-of-00001.safetensors"].sha256 = writer.finish();
  state.files["model-00001-of-00001.safetensors"].bytes = writer.size();
  golem::OutputFile file(made.path() + "/state.json");
  file.write(golem::format_checkpoint_state(state, "x"));
  file.finish();
  made.commit();
  CHECK(has(load_error(folder / "step-00000006", [&](golem::StateVisitor& v) { v.tensor(tensor); }), "element 1 of tensor 'w'"));
}

TEST_CASE("a damaged checkpoint gives an error or the same state") {
  const test::Folder folder;
  RunState saved(3);
  const std::string path = golem::save(folder.path, 3, saved);
  test::Dice dice(49300);
  int equal = 0;
  for (const std::string& name : {path + "/model-00001-of-00001.safetensors", path + "/optimizer-00001-of-00001.safetensors", path + "/state.json",
                                  path + "/model.safetensors.index.json", folder / "latest"}) {
    const std::string whole = test::read(name);
    for (int i = 0; i < 500; ++i) {
      test::write(name, test::mutated(whole, dice));
      RunState other(1);
      if (error_of([&] { golem::load(folder.path, other); }) != "no error") {
        REQUIRE(other == RunState(1));
        continue;
      }
      REQUIRE(other == saved);
      ++equal;
    }
    test::write(name, whole);
  }
  CHECK(equal >= 500);  // the index is for other readers, and golem does not use it
}
