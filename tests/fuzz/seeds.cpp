// Writes the sound files that each fuzz target begins with: FOLDER/TARGET/0, 1, ...
// SPDX-License-Identifier: Apache-2.0
#include "fuzz/seeds.hpp"

#include <cstdio>
#include <filesystem>
#include <map>

#include "fuzz/tokenizer_target.hpp"

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "seeds FOLDER\n"), 2;
  const std::string golden = test::read(fuzz::golden_shard);
  std::map<std::string, fuzz::Files> seeds{{"corpus", fuzz::corpora()},           {"index_json", fuzz::index_texts()}, {"instructions", fuzz::instruction_files()},
                                           {"jsonl", fuzz::json_lines()},         {"pickle", fuzz::pickles()},         {"safetensors", fuzz::safetensors_files()},
                                           {"sat_shard", fuzz::shards()},         {"slice_json", fuzz::slices()},      {"tokenizer", fuzz::tokenizer_models()},
                                           {"zip", fuzz::archives()}};
  seeds["pickle"].push_back(fuzz::golden_pickle());
  seeds["sat_shard"].push_back(golden), seeds["zip"].push_back(golden);
  for (const auto& [target, files] : seeds) {
    const std::string folder = argv[1] + ("/" + target);
    std::filesystem::create_directories(folder);
    for (std::size_t i = 0; i < files.size(); ++i) test::write(golem::sentence(folder, "/", i), files[i]);
  }
}
