// generate_beams: a beam search over an engine: each live beam has a slot of the key-value cache, and takes its parent's over.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "golem/config/special_tokens.hpp"
#include "golem/core/error.hpp"
#include "golem/infer/beam_search.hpp"
#include "golem/infer/engine_core.hpp"
#include "golem/infer/prompt.hpp"

namespace golem {

/// Which beam lies in which slot of an engine's cache.
class BeamSlots {
 public:
  BeamSlots(int slots, std::int32_t prompt) : prompt_(prompt), holds_prompt_(static_cast<std::size_t>(slots)) {
    slot_of_.push_back(0);
    holds_prompt_[0] = true;
  }

  std::int32_t slot(std::size_t beam) const { return slot_of_[beam]; }

  /// Gives the beams that go on their slots. The first child of a beam stays where its parent was; the others get copies of
  /// the `cached` tokens there, in slots whose beams had no child: no copy reads what another has written.
  template <class EngineType>
  void follow(EngineType& engine, const std::vector<BeamSearch::Live>& live, std::int32_t cached) {
    std::vector<std::int32_t> next(live.size(), -1);
    std::vector<bool> taken(holds_prompt_.size());
    for (std::size_t b = 0; b < live.size(); ++b) {
      const std::int32_t slot = slot_of_[live[b].parent];
      if (taken[static_cast<std::size_t>(slot)]) continue;
      taken[static_cast<std::size_t>(slot)] = true;
      next[b] = slot;
    }
    std::size_t free = 0;
    for (std::size_t b = 0; b < live.size(); ++b) {
      if (next[b] >= 0) continue;
      while (taken[free]) ++free;
      taken[free] = true;
      next[b] = static_cast<std::int32_t>(free);
      const std::int32_t first = holds_prompt_[free] ? prompt_ : 0;
      if (cached > first) engine.copy_sequence(slot_of_[live[b].parent], next[b], first, cached - first);
      holds_prompt_[free] = true;
    }
    slot_of_ = std::move(next);
  }

 private:
  std::int32_t prompt_;              // tokens that all beams share
  std::vector<bool> holds_prompt_;   // of each slot
  std::vector<std::int32_t> slot_of_;
};

/// The best continuations of the prompt, best first. Ends where the search does, at options.max_tokens, or at the end of
/// the cache. `engine` must have as many sequences as there are beams.
template <class EngineType>
std::vector<Beam> generate_beams(EngineType& engine, const Prompt& prompt, const BeamSearchOptions& options, const SpecialTokens& special) {
  const auto length = static_cast<std::int32_t>(prompt.tokens.size());
  require(options.beams <= engine.sequences(), "a search with ", options.beams, " beams was asked of an Engine made for ", engine.sequences(),
          " sequences: EngineOptions::sequences must be at least that");
  require_room(prompt, engine.capacity());
  const std::int32_t ends[]{special.eop, special.eos};
  BeamSearch search(options, prompt.tokens, ends);
  BeamSlots slots(engine.sequences(), length);
  std::vector<SequenceStep> steps{{.slot = 0, .first = 0, .prefix = prompt.prefix(), .tokens = prompt.tokens, .positions = prompt.positions}};
  std::int32_t position = 0;
  for (std::int32_t generated = 1; generated <= options.max_tokens; ++generated) {
    search.advance(engine.forward(steps));
    const std::int32_t cached = length + generated - 1;
    position = prompt.position(generated - 1);
    if (search.done() || generated == options.max_tokens || !prompt.has_room(generated - 1, engine.capacity(), engine.context())) break;
    slots.follow(engine, search.live(), cached);
    steps.clear();
    for (std::size_t b = 0; b < search.live().size(); ++b)
      steps.push_back({.slot = slots.slot(b), .first = cached, .prefix = prompt.prefix(), .tokens = {&search.live()[b].tokens.back(), 1}, .positions = {&position, 1}});
  }
  return search.finish();
}

}  // namespace golem
