// BlankRecipe: the numbers of GLM's training objective, as a value (spec 2.5).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "golem/core/error.hpp"

namespace golem {

/// How a row of the corpus becomes a training sample: with probability 1 - generation, cut in `windows` pieces whose
/// spans become [MASK]s; else one [gMASK] whose text follows to the row's end.
struct BlankRecipe {
  int context = 2048;     // tokens of a sample, pads included
  int row = 2000;         // tokens of the corpus that one sample is made of
  int windows = 4;        // of a [MASK] sample; each context / windows tokens, from row / windows of the corpus
  double generation = 0.7;       // probability of a [gMASK] sample
  double mask_ratio = 0.15;      // of a window's tokens, at least, in spans
  double span_mean = 3;          // lambda of the Poisson distribution of span lengths, without 0
  double short_window = 0.02;    // probability that a window is cut short
  int shortest_window = 32;      // tokens that are left then, at least
  double single_span = 0.02;     // probability that a window has one span only
  double min_generation = 0.2;   // smallest part of a row that a [gMASK] sample generates
  int max_spans = 0;             // in a window; 0: as many as are drawn, and what does not fit is cut off
  bool redraw = false;           // other blanks for a row in every epoch

  constexpr int window() const { return context / windows; }
  constexpr int piece() const { return row / windows; }
};

/// GLM-130B's own numbers. Most of its [MASK] windows overflow, and lose targets: its own quirk.
inline constexpr BlankRecipe glm_130b_recipe{};

/// The recipe for another context, with nothing cut off: windows of up to 512 tokens, a ninth of each kept free for the
/// two tokens that every span adds, and no more spans than fit. Throws Error for a context below 16.
constexpr BlankRecipe recipe(int context) {
  if (context < 16) fail("a recipe for a context of ", context, " tokens was asked for: spans with their marks need at least 16");
  BlankRecipe r;
  r.context = context;
  r.windows = context >= 2048 ? 4 : context >= 1024 ? 2 : 1;
  const int spare = r.window() / 18;  // spans; each needs 2 tokens more than it masks
  r.max_spans = spare > 1 ? spare : 1;
  r.row = r.windows * (r.window() - 2 * r.max_spans);
  r.redraw = true;
  r.shortest_window = r.piece() / 16 > 4 ? r.piece() / 16 : 4;
  return r;
}

}  // namespace golem
