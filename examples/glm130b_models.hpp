// GLM-130B and its small sibling: the same architecture, numbers and programs, in sizes for one machine.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "device.hpp"
#include "golem/config/plan.hpp"
#include "golem/config/presets.hpp"
#include "golem/core/error.hpp"
#include "ranks.hpp"

namespace examples {

/// A sixteenth of GLM-130B's context, and heads enough for 8 tensor ranks; learns something in a minute.
struct glm_130b_tiny {
  static constexpr auto config = golem::checked(golem::glm_130b::config.with([](auto& c) { c.layers = 6, c.hidden = 128, c.heads = 8, c.ffn = 352, c.vocab = 512, c.context = 128, c.embedding_std = 0.02; }));
};

/// Calls use.template operator()<Model>() for glm_130b or tiny.
template <class Use>
void with_glm_130b(std::string_view name, Use use) {
  if (name == "glm_130b") return use.template operator()<golem::glm_130b>();
  if (name == "tiny") return use.template operator()<glm_130b_tiny>();
  golem::fail("there is no model '", name, "' in this program: name glm_130b or tiny");
}

/// Throws Error where this machine has less memory than its ranks need, of `ranks` in all.
inline void check_memory(std::string_view what, std::int64_t rank_bytes, int ranks) {
  const int here = ranks_here(ranks).value_or(1);
  const std::int64_t memory = memory_of_rank(here);
  const auto gib = [](std::int64_t bytes) { return static_cast<double>(bytes * 10 / golem::gibibyte) / 10; };
  golem::require(rank_bytes <= memory, what, " takes ", gib(rank_bytes), " GiB on each rank, and this machine has ", gib(memory), " GiB for ", here == 1 ? "one" : golem::sentence("each of ", here), ": start ranks on more machines, or try --model tiny");
}

}  // namespace examples
