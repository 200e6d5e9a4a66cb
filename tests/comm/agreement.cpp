// Ranks that disagree are told what differs, on which ranks, and where the texts part; once, and before anything else.
// SPDX-License-Identifier: Apache-2.0
#include "golem/comm/agreement.hpp"

#include <string>

#include "catch.hpp"
#include "golem/comm/threads.hpp"
#include "golem/comm/world.hpp"

using namespace golem;

namespace {

std::string disagreement(int ranks, function_ref<std::string(int)> text) {
  try {
    run_ranks(ranks, [&](Group group) { World(group, {.tp = 1, .pp = 1, .dp = ranks}).agree("the model", text(group.rank())); });
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("ranks that agree go on") {
  CHECK(disagreement(3, [](int) { return std::string("layers 70, hidden 12288"); }) == "");
  CHECK(disagreement(2, [](int) { return std::string(); }) == "");
  CHECK(disagreement(1, [](int) { return std::string("alone"); }) == "");
  World().agree("the model", "alone");
}

TEST_CASE("the odd rank is named, with what it has") {
  CHECK(disagreement(4, [](int rank) { return std::string(rank == 2 ? "seed 2" : "seed 1"); }) ==
        "rank 2 does not agree with rank 0 on the model: 'seed 1' on rank 0, 'seed 2' on rank 2: start all ranks alike");
  CHECK(disagreement(3, [](int rank) { return std::string(rank == 0 ? "a" : "ab"); }) ==
        "ranks 1 and 2 do not agree with rank 0 on the model: 'a' on rank 0, 'ab' on rank 1: start all ranks alike");
}

TEST_CASE("of long texts the piece that differs is shown") {
  const std::string why =
      disagreement(2, [](int rank) { return std::string(5000, 'x') + (rank == 0 ? "layers 70" : "layers 69") + std::string(5000, 'y'); });
  CHECK_THAT(why, Catch::Matchers::Contains("xlayers 70yyy") && Catch::Matchers::Contains("xlayers 69yyy"));
  CHECK(why.size() < 350);
}
