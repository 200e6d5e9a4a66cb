// Names out of hostile files: whatever a file of golem's own says, no error moves a terminal's cursor.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/printable.hpp"

#include <limits>
#include <string>
#include <vector>

#include "catch.hpp"
#include "golem/io/checkpoint.hpp"
#include "golem/io/rank_part.hpp"
#include "io/files.hpp"

using golem::DType, golem::printable;
using test::error_of, test::has;

namespace {

const std::string evil = "a\x1b[2J\x7f\xc2\x9b" "b", escaped = "a\\u001b[2J\x7f\xc2\x9b" "b", shown = "a?[2J???b";

/// The sentence has the name, and nothing in it that a terminal would obey.
bool says(const std::string& error, const std::string& words) {
  UNSCOPED_INFO(printable(error, error.size()));
  return has(error, words) && printable(error, error.size()) == error;
}

template <class Action>
bool refuses(Action action, const std::string& words) {
  return says(error_of(action), words);
}

std::string safetensors_error(const std::string& header) {
  const std::uint64_t length = header.size();
  const std::string file = std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(8, 'x');
  return error_of([&] { golem::parse_safetensors(std::as_bytes(std::span(file)), "x"); });
}

/// A tensor of such a name, with NaN.
struct EvilState {
  float values[2]{1, 1};
  void visit_state(golem::StateVisitor& visitor) { visitor.tensor({evil, DType::f32, {2}, values, 8}); }
};

}  // namespace

TEST_CASE("a name is shown in printable ASCII, cut where it is long") {
  CHECK(printable(evil) == shown);
  CHECK(printable(std::string(121, 'a')) == std::string(120, 'a') + "...");
  CHECK(printable(std::string(121, 'a'), 121) == std::string(121, 'a'));
}

TEST_CASE("names in safetensors headers and JSON are made fit to be shown") {
  CHECK(says(safetensors_error("{\"" + escaped + "\":3}"), "tensor '" + shown + "': its entry"));
  CHECK(says(safetensors_error("{\"a\":{\"dtype\":\"" + escaped + "\",\"shape\":[2],\"data_offsets\":[0,8]}}"), "element type '" + shown + "'"));
  CHECK(says(safetensors_error("{\"" + escaped + "\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}"), "tensor '" + shown + "': its bytes begin"));
  CHECK(says(safetensors_error("{\"__metadata__\":{\"" + escaped + "\":3}}"), "__metadata__ '" + shown + "' is of type"));
  CHECK(refuses([] { golem::parse_json("{\"" + escaped + "\":3,\"" + escaped + "\":4}", "x", 3); }, "the name '" + shown + "' is given twice"));
  CHECK(refuses([] { golem::parse_json("[\"" + escaped + "]", "x", 3); }, "no valid JSON"));
}

TEST_CASE("names in state.json and a rank's part are made fit to be shown") {
  golem::CheckpointState state{.step = 3, .model = evil, .integers = {}, .reals = {}, .texts = {}, .files = {{evil, {1, "a"}}}};
  const auto parse = [](const std::string& text) { golem::parse_checkpoint_state(text, "x"); };
  CHECK(refuses([&] { parse(golem::format_checkpoint_state(state, "x")); }, "'" + shown + "' is no plain file name"));
  const auto digested = [&](nlohmann::json fields) { return fields["digest"] = golem::checkpoint::digest_of(fields, "x"), fields.dump(); };
  auto json = nlohmann::json::parse(golem::format_checkpoint_state({.step = 3, .model = "m", .integers = {}, .reals = {}, .texts = {}, .files = {}}, "x"));
  for (const char* field : {"integers", "reals", "texts"}) {
    auto changed = json;
    changed[field][evil] = nlohmann::json::array();
    CHECK(refuses([&] { parse(digested(changed)); }, "'" + shown + "' is "));
  }
  auto changed = json;
  changed["reals"]["x"] = evil;
  CHECK(refuses([&] { parse(digested(changed)); }, "'x' is '" + shown + "', expected a number"));
  changed["digest"] = evil;
  CHECK(refuses([&] { parse(changed.dump()); }, "expected digest " + shown));

  golem::RankPart part;
  part.tensors = {{evil, DType::f16, {4}, golem::whole_slice({4, 1}), "absent"}};
  CHECK(refuses([&] { golem::parse_rank_part(golem::format_rank_part(part, "x"), "x"); }, "tensor '" + shown + "': it is said to be in 'absent'"));
}

TEST_CASE("names in a golem checkpoint are made fit to be shown") {
  const test::Folder folder;
  EvilState state;
  const std::string path = golem::save(folder.path, 4, state, {.model = evil});
  CHECK(refuses([&] { golem::load(path, state, {.model = "another"}); }, "it says '" + shown + "'"));
  const golem::CheckpointReader reader(path);
  REQUIRE(reader.names() == std::vector<std::string>{evil});
  golem::TensorState wanted{evil, DType::f32, {3}, state.values, 12};
  CHECK(refuses([&] { reader.check(wanted); }, "tensor '" + shown + "' of the checkpoint"));
  wanted.name += "x";
  CHECK(refuses([&] { reader.check(wanted); }, "has no tensor '" + shown + "x' of shape (3)"));
  CHECK(refuses([&] { reader.bytes(evil + "x"); }, "has no tensor '" + shown + "x'"));

  struct Nothing {
    void visit_state(golem::StateVisitor&) {}
  } nothing;
  CHECK(refuses([&] { golem::load(path, nothing); }, "has the tensor '" + shown + "', which this state does not"));

  std::string file = test::read(path + "/model-00001-of-00001.safetensors");
  const float nan = std::numeric_limits<float>::quiet_NaN();
  file.replace(file.size() - 4, 4, reinterpret_cast<const char*>(&nan), 4);
  test::write(path + "/model-00001-of-00001.safetensors", file);
  const golem::CheckpointReader damaged(path, {.digests = false});
  CHECK(refuses([&] { damaged.check({evil, DType::f32, {2}, state.values, 8}); }, "element 1 of tensor '" + shown + "'"));
  test::write(folder / "latest", evil);
  CHECK(refuses([&] { golem::find_checkpoint(folder.path); }, "found '" + shown + "'"));
}
