// Sound files for each fuzzed parser: what the fuzzer, and the short run in the test suite, begin with.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "golem/data/instruction_set.hpp"
#include "golem/io/checkpoint_state.hpp"
#include "golem/io/pickle_writer.hpp"
#include "golem/io/rank_part.hpp"
#include "golem/io/slice_json.hpp"
#include "golem/io/zip_archive.hpp"
#include "golem/io/zip_writer.hpp"
#include "io/files.hpp"
#include "io/zip.hpp"

namespace fuzz {

using Files = std::vector<std::string>;

/// Of a real shard, as torch.save wrote it.
inline const std::string golden_shard = GOLEM_TEST_SOURCE "/tests/golden/sat/49300/mp_rank_00_model_states.pt";

/// A small shard, as golem writes it, plain and in the zip64 form; and a hostile one that torch.save wrote.
inline Files shards() {
  Files files;
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

inline Files archives() {
  Files files = shards();
  files.push_back(test::zip_of({test::zip_part("a/b", "12345"), test::zip_part("a/c", "")}));
  return files;
}

inline Files pickles() { return {golem::format_pickle({{"a.weight", golem::DType::f16, {3, 5}}}, "a test"), "\x80\2}q\1(K\1K\2u(K\1h\1tb."}; }

inline std::string golden_pickle() {
  const golem::ZipArchive archive(golden_shard);
  const auto bytes = archive.bytes(*archive.find("mp_rank_00_model_states/data.pkl"));
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The second has a name that moves a terminal's cursor.
inline Files safetensors_files() {
  const auto file = [](const std::string& header, std::size_t bytes) {
    const std::uint64_t length = header.size();
    return std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(bytes, 'z');
  };
  return {file(R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"U8","shape":[8],"data_offsets":[24,32]}})", 32),
          file(R"({"\u001b[2J\u009b":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})", 24)};
}

/// state.json, and a rank's part.
inline Files index_texts() {
  golem::CheckpointState state{.step = 3, .model = "layers 2", .integers = {{"seed", 1}}, .reals = {{"loss", 1.5}}, .texts = {}, .files = {}};
  state.files["model-00001-of-00001.safetensors"] = {100, std::string(64, 'a')};
  golem::RankPart part;
  part.rank = 1, part.save = "1-2-3", part.files = state.files;
  part.tensors = {{"a.\x1b[2J\xc2\x9b", golem::DType::f16, {4, 6}, golem::whole_slice({4, 6}), "model-00001-of-00001.safetensors"}};
  return {golem::format_checkpoint_state(state, "a test"), golem::format_rank_part(part, "a test")};
}

inline Files slices() { return {golem::format_slice_of({"a.weight", {4, 6}, {{{0, 2}, {2, 1}}, {1, 3}, {2, 5}}}, "a test")}; }

inline Files json_lines() { return {"{\"text\": \"a\\u4e2d\", \"target\": \"b\"}\n\n{\"text\": \"\", \"target\": \"\"}\n"}; }

/// The header, a zero byte, and the rows.
inline Files corpora() {
  const std::int32_t tokens[]{1, 2, 3, 4, 5, 6};
  return {std::string("golem corpus 1\nrow 3\nrows 2\nvocab 9\ntokenizer abc\n") + '\0' + std::string(reinterpret_cast<const char*>(tokens), sizeof tokens)};
}

inline Files instruction_files() {
  const test::Folder folder;
  golem::InstructionBuilder builder(9, "digest");
  builder.add(std::vector<std::int32_t>{1, 2, 3}, std::vector<std::int32_t>{4});
  builder.add(std::vector<std::int32_t>{}, std::vector<std::int32_t>{5, 6});
  builder.write(folder / "set");
  return {test::read(folder / "set")};
}

}  // namespace fuzz
