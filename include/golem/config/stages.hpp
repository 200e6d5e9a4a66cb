// Which blocks a stage of the pipeline owns: embedding and head count as a layer each (spec 4.1).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "golem/config/parameters.hpp"
#include "golem/config/presets.hpp"

namespace golem {

/// The part of the model that chunk `chunk` of rank `rank_stage` owns, virtual stage v = chunk * stages + rank_stage of
/// S = stages * chunks: units [U v / S, U (v + 1) / S) of U = layers + 2, the embedding first, the head last. A stage may hold
/// no block. Throws Error where there are more virtual stages than units.
constexpr Stage stage_of(const ModelConfig& c, int stages, int chunks = 1, int rank_stage = 0, int chunk = 0) {
  const std::int64_t units = c.layers + 2, virtual_stages = std::int64_t{stages} * chunks, v = std::int64_t{chunk} * stages + rank_stage;
  if (stages < 1 || chunks < 1 || rank_stage < 0 || rank_stage >= stages || chunk < 0 || chunk >= chunks)
    fail("a part of the model was asked for chunk ", chunk, " of ", chunks, " on stage ", rank_stage, " of ", stages, ": both count from 0");
  if (virtual_stages > units)
    fail("a model of ", c.layers, " layers was to be cut in ", stages, " stages of ", chunks, " chunks, but it has ", units,
         " units only, embedding and head included: lower pp or chunks");
  const std::int64_t first = units * v / virtual_stages, last = units * (v + 1) / virtual_stages;
  const auto block = [&](std::int64_t unit) { return static_cast<int>(smaller<std::int64_t>(c.layers, larger<std::int64_t>(0, unit - 1))); };
  return {block(first), block(last), first == 0, last == units};
}

/// What holds any chunk of a rank, one at a time: as many blocks as the largest of them, and what any has outside the blocks.
constexpr Stage largest_chunk(const ModelConfig& c, int stages, int chunks, int rank_stage) {
  Stage largest{0, 0, false, false};
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const Stage part = stage_of(c, stages, chunks, rank_stage, chunk);
    largest = {0, larger(largest.last, part.last - part.first), largest.embedding || part.embedding, largest.head || part.head};
  }
  return largest;
}

static_assert(stage_of(glm_130b::config, 1) == whole(glm_130b::config));
static_assert(stage_of(glm_130b::config, 8, 1, 0) == Stage{0, 8, true, false},
              "golem: GLM-130B's first stage is the embedding and 8 layers (spec 4.1)");
static_assert(stage_of(glm_130b::config, 8, 1, 1) == Stage{8, 17, false, false}, "golem: GLM-130B's inner stages are 9 layers each (spec 4.1)");
static_assert(stage_of(glm_130b::config, 8, 1, 6) == Stage{53, 62, false, false}, "golem: GLM-130B's inner stages are 9 layers each (spec 4.1)");
static_assert(stage_of(glm_130b::config, 8, 1, 7) == Stage{62, 70, false, true}, "golem: GLM-130B's last stage is 8 layers and the head (spec 4.1)");

}  // namespace golem
