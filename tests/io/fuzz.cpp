// A short run of each fuzz target, without a fuzzer: sound files, damaged in seeded ways.
// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <string>
#include <vector>

#include "catch.hpp"
#include "fuzz/targets.hpp"
#include "golem/io/pickle_writer.hpp"
#include "golem/io/rank_part.hpp"
#include "golem/io/zip_writer.hpp"
#include "io/files.hpp"
#include "io/zip.hpp"

namespace {

/// Changes that text would not have: numbers of 2, 4 and 8 bytes that parsers stumble over.
std::string damaged(std::string file, test::Dice& dice) {
  if (dice(2) == 0 || file.size() < 8) return test::mutated(std::move(file), dice);
  static const std::uint64_t telling[]{0, 1, 0x7f, 0xff, 0xffff, 0x7fffffff, 0xffffffff, 0x7fffffffffffffff, 0xffffffffffffffff, 0x8000000000000000};
  for (std::size_t changes = 1 + dice(2); changes > 0; --changes) {
    const std::uint64_t number = telling[dice(std::size(telling))] + dice(3) - 1;
    const std::size_t bytes = std::size_t{2} << dice(3);
    std::memcpy(file.data() + dice(file.size() - bytes + 1), &number, bytes);
  }
  return file;
}

template <class Target>
void run(Target target, const std::vector<std::string>& sound, int times) {
  test::Dice dice(49300);
  const auto give = [&](const std::string& file) { target(fuzz::Input(reinterpret_cast<const std::uint8_t*>(file.data()), file.size())); };
  for (const std::string& file : sound) give(file), give(damaged(file, dice));
  for (int i = 0; i < times; ++i) give(damaged(sound[dice(sound.size())], dice));
  CHECK(times > 0);  // a promise that is not kept ends the process
}

/// A small shard, as golem writes it, plain and in the zip64 form; and one that torch.save wrote.
std::vector<std::string> shards() {
  std::vector<std::string> files;
  const test::Folder folder;
  const std::vector<golem::PickleTensor> list{{"a.weight", golem::DType::f16, {3, 5}}, {"b", golem::DType::i8, {7}}};
  for (const std::uint64_t zip64_from : {0xffffffffull, 0ull}) {
    golem::ZipWriter writer(folder / "x.pt", 0, {.zip64_from = zip64_from});
    const std::string pickle = golem::format_pickle(list, "a test");
    writer.begin("x/data.pkl", pickle.size()), writer.write(pickle);
    writer.begin("x/data/0", 30), writer.write(std::string(30, 'a'));
    writer.begin("x/data/1", 7), writer.write("1234567");
    writer.finish();
    files.push_back(test::read(folder / "x.pt"));
  }
  files.push_back(test::read(GOLEM_TEST_SOURCE "/tests/golden/sat/names_os_system.pt"));
  return files;
}

std::string golden_pickle() {
  const golem::ZipArchive archive(GOLEM_TEST_SOURCE "/tests/golden/sat/49300/mp_rank_00_model_states.pt");
  const auto bytes = archive.bytes(*archive.find("mp_rank_00_model_states/data.pkl"));
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

TEST_CASE("any bytes as a zip archive") {
  auto sound = shards();
  sound.push_back(test::zip_of({test::zip_part("a/b", "12345"), test::zip_part("a/c", "")}));
  run(fuzz::zip, sound, 20000);
}

TEST_CASE("any bytes as a pickle") {
  run(fuzz::pickle, {golem::format_pickle({{"a.weight", golem::DType::f16, {3, 5}}}, "a test"), "\x80\2}q\1(K\1K\2u(K\1h\1tb."}, 20000);
  run(fuzz::pickle, {golden_pickle()}, 500);
}

TEST_CASE("any bytes as a shard of a released checkpoint") {
  run(fuzz::sat_shard, shards(), 5000);
  run(fuzz::sat_shard, {test::read(GOLEM_TEST_SOURCE "/tests/golden/sat/49300/mp_rank_00_model_states.pt")}, 300);
}

TEST_CASE("any bytes as a safetensors file") {
  const std::string header = R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"U8","shape":[8],"data_offsets":[24,32]}})";
  const std::uint64_t length = header.size();
  const std::string evil = R"({"\u001b[2J\u009b":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})";  // moves a terminal's cursor
  const std::uint64_t evil_length = evil.size();
  run(fuzz::safetensors,
      {std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(32, 'z'),
       std::string(reinterpret_cast<const char*>(&evil_length), 8) + evil + std::string(24, 'z')},
      10000);
}

TEST_CASE("any text as the JSON of a checkpoint") {
  golem::CheckpointState state{.step = 3, .model = "layers 2", .integers = {{"seed", 1}}, .reals = {{"loss", 1.5}}, .texts = {}, .files = {}};
  state.files["model-00001-of-00001.safetensors"] = {100, std::string(64, 'a')};
  golem::RankPart part;
  part.rank = 1, part.save = "1-2-3", part.files = state.files;
  part.tensors = {{"a.\x1b[2J\xc2\x9b", golem::DType::f16, {4, 6}, golem::whole_slice({4, 6}), "model-00001-of-00001.safetensors"}};
  run(fuzz::index_json, {golem::format_checkpoint_state(state, "a test"), golem::format_rank_part(part, "a test")}, 4000);
  run(fuzz::slice_json, {golem::format_slice_of({"a.weight", {4, 6}, {{{0, 2}, {2, 1}}, {1, 3}, {2, 5}}}, "a test")}, 10000);
}

TEST_CASE("any text as lines of JSON") { run(fuzz::jsonl, {"{\"text\": \"a\\u4e2d\", \"target\": \"b\"}\n\n{\"text\": \"\", \"target\": \"\"}\n"}, 5000); }

TEST_CASE("any bytes as a corpus and its header") {
  const std::int32_t tokens[]{1, 2, 3, 4, 5, 6};
  const std::string rows(reinterpret_cast<const char*>(tokens), sizeof tokens);
  run(fuzz::corpus, {std::string("golem corpus 1\nrow 3\nrows 2\nvocab 9\ntokenizer abc\n") + '\0' + rows}, 3000);
}

TEST_CASE("any bytes as a file of instructions") {
  const test::Folder folder;
  golem::InstructionBuilder builder(9, "digest");
  builder.add(std::vector<std::int32_t>{1, 2, 3}, std::vector<std::int32_t>{4});
  builder.add(std::vector<std::int32_t>{}, std::vector<std::int32_t>{5, 6});
  builder.write(folder / "set");
  run(fuzz::instructions, {test::read(folder / "set")}, 5000);
}
