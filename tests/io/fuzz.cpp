// A short run of each fuzz target, without a fuzzer: sound files, damaged in seeded ways.
// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <string>
#include <vector>

#include "catch.hpp"
#include "fuzz/seeds.hpp"
#include "fuzz/targets.hpp"
#include "io/files.hpp"

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

}  // namespace

TEST_CASE("any bytes as a zip archive") { run(fuzz::zip, fuzz::archives(), 20000); }

TEST_CASE("any bytes as a pickle") {
  run(fuzz::pickle, fuzz::pickles(), 20000);
  run(fuzz::pickle, {fuzz::golden_pickle()}, 500);
}

TEST_CASE("any bytes as a shard of a released checkpoint") {
  run(fuzz::sat_shard, fuzz::shards(), 5000);
  run(fuzz::sat_shard, {test::read(fuzz::golden_shard)}, 300);
}

TEST_CASE("any bytes as a safetensors file") { run(fuzz::safetensors, fuzz::safetensors_files(), 10000); }

TEST_CASE("any text as the JSON of a checkpoint") {
  run(fuzz::index_json, fuzz::index_texts(), 4000);
  run(fuzz::slice_json, fuzz::slices(), 10000);
}

TEST_CASE("any text as lines of JSON") { run(fuzz::jsonl, fuzz::json_lines(), 5000); }

TEST_CASE("any bytes as a corpus and its header") { run(fuzz::corpus, fuzz::corpora(), 3000); }

TEST_CASE("any bytes as a file of instructions") { run(fuzz::instructions, fuzz::instruction_files(), 5000); }
