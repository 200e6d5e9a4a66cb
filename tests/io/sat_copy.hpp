// What the tests of released checkpoints share: the one that torch.save made; and a copy of it, to be damaged.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "golem/io/sat_checkpoint.hpp"
#include "io/files.hpp"

namespace test {

/// What tests/golden/sat/make.py made.
inline const std::string sat_golden = GOLEM_TEST_SOURCE "/tests/golden/sat";

struct SatCopy : Folder {
  SatCopy() { std::filesystem::copy(sat_golden, path, std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing); }
  std::string shard(int rank) const { return path + "/49300/" + golem::sat::shard_name(rank); }
};

}  // namespace test
