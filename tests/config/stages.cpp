// The parts of a model that stages own: all of it, once, evenly, and GLM-130B's as they were.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/stages.hpp"

#include "catch.hpp"

using namespace golem;

TEST_CASE("virtual stages own each unit once, in order, and differ by one unit at most") {
  for (const ModelConfig& c : {glm_130b::config, glm_tiny::config, glm_small::config, glm_10b::config})
    for (int stages = 1; stages <= 9; ++stages)
      for (int chunks = 1; chunks <= 4; ++chunks) {
        if (stages * chunks > c.layers + 2) continue;
        int next = 0, fewest = 1 << 20, most = 0;
        for (int v = 0; v < stages * chunks; ++v) {
          const Stage stage = stage_of(c, stages, chunks, v % stages, v / stages);
          REQUIRE(stage.first == next);
          REQUIRE(stage.last >= stage.first);
          REQUIRE(stage.embedding == (v == 0));
          REQUIRE(stage.head == (v == stages * chunks - 1));
          const int units = stage.last - stage.first + stage.embedding + stage.head;
          fewest = smaller(fewest, units), most = larger(most, units), next = stage.last;
        }
        REQUIRE(next == c.layers);
        REQUIRE(fewest >= 1);
        REQUIRE(most - fewest <= 1);
      }
}

TEST_CASE("the smallest stages hold no block") {
  CHECK(stage_of(glm_tiny::config, 4, 1, 0) == Stage{0, 0, true, false});
  CHECK(stage_of(glm_tiny::config, 4, 1, 1) == Stage{0, 1, false, false});
  CHECK(stage_of(glm_tiny::config, 2, 2, 1, 1) == Stage{2, 2, false, true});
}

TEST_CASE("GLM-130B's stages hold its parameters, the tied embedding twice") {
  std::int64_t all = 0;
  for (int stage = 0; stage < 8; ++stage) all += parameter_count(glm_130b::config, stage_of(glm_130b::config, 8, 1, stage), 1);
  CHECK(all == parameter_count(glm_130b::config) + embedding_parameter(glm_130b::config).size());
}

TEST_CASE("more virtual stages than units are refused with what to change") {
  CHECK_THROWS_WITH(stage_of(glm_tiny::config, 5), Catch::Matchers::Contains("it has 4 units only, embedding and head included: lower pp or chunks"));
  CHECK_THROWS_WITH(stage_of(glm_tiny::config, 2, 1, 2), Catch::Matchers::Contains("count from 0"));
}
