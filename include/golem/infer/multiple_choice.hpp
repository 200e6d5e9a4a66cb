// Multiple choice as GLM-130B's own evaluation packs it (spec 7.2): all choices of a question in one row, behind the text that they share.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "golem/config/special_tokens.hpp"
#include "golem/core/batch.hpp"
#include "golem/core/error.hpp"

namespace golem {

/// One row, whose scored tokens are those of the choices, one choice after the other.
struct PackedChoices {
  Batch batch;
  std::vector<std::int32_t> ends;  // how many scored tokens there are up to the end of each choice
};

/// Packs `choices` behind `text`, to which `mask` is appended where it is not in it. Each choice begins with sop, is causal, and sees the
/// text, which sees itself whole, but no other choice. With special.gmask positions go on from the text's length in every choice;
/// with another mask all tokens of choices have the mask's own (spec 7.2). Throws Error where there is no choice, or an empty one.
inline PackedChoices pack_choices(std::vector<std::int32_t> text, const std::vector<std::vector<std::int32_t>>& choices, std::int32_t mask, const SpecialTokens& special) {
  require(!choices.empty(), "a question of ", text.size(), " tokens came without choices: give at least one");
  auto found = std::find(text.begin(), text.end(), mask);
  if (found == text.end()) found = text.insert(found, mask);
  const auto mask_position = static_cast<std::int32_t>(found - text.begin()), context = static_cast<std::int32_t>(text.size());

  PackedChoices packed;
  Batch& b = packed.batch;
  b.rows = 1;
  b.tokens = std::move(text);
  for (std::int32_t i = 0; i < context; ++i) b.positions.push_back(i), b.targets.push_back(-1);
  b.windows = {{.begin = 0, .end = context, .prefix = context}};
  std::int32_t scored = 0;
  for (const std::vector<std::int32_t>& choice : choices) {
    require(!choice.empty(), "choice ", packed.ends.size(), " of a question has no token: each must have one");
    const auto begin = static_cast<std::int32_t>(b.tokens.size()), count = static_cast<std::int32_t>(choice.size());
    b.windows.push_back({.begin = begin, .end = begin + count, .prefix = 0, .context_begin = 0, .context_end = context});
    b.tokens.push_back(special.sop);
    b.tokens.insert(b.tokens.end(), choice.begin(), choice.end() - 1);
    b.targets.insert(b.targets.end(), choice.begin(), choice.end());
    for (std::int32_t i = 0; i < count; ++i) b.positions.push_back(mask == special.gmask ? context + i : mask_position);
    packed.ends.push_back(scored += count);
  }
  b.length = static_cast<int>(b.tokens.size());
  b.first_window = {0, static_cast<std::int32_t>(b.windows.size())};
  b.tasks = {mask == special.gmask ? Task::generation : Task::blank};
  return packed;
}

/// The sum of log-probabilities of each choice, from the losses of the packed row's scored tokens; the highest is the answer. T float16:
/// log-probabilities and sums rounded to it, as the original's are (spec 7.3).
template <class T, class A>
std::vector<A> choice_scores(const std::vector<A>& losses, const std::vector<std::int32_t>& ends) {
  std::vector<A> scores;
  std::int32_t i = 0;
  for (const std::int32_t end : ends) {
    A sum = 0;
    for (; i < end; ++i) sum += static_cast<A>(static_cast<T>(-losses[static_cast<std::size_t>(i)]));
    scores.push_back(static_cast<A>(static_cast<T>(sum)));
  }
  return scores;
}

}  // namespace golem
