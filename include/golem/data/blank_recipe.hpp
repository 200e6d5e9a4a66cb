// BlankRecipe: the numbers of GLM's training objective, as a value (spec 2.5).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "golem/core/error.hpp"
#include "golem/core/math.hpp"

namespace golem {

/// How a row of the corpus becomes a training sample: with probability 1 - generation, `windows` pieces of it whose spans
/// become [MASK]s; else one [gMASK] whose text follows to the row's end.
struct BlankRecipe {
  int context = 2048;           // tokens of a sample, pads included
  int row = 2000;               // tokens of the corpus that one sample is made of
  int windows = 4;              // of a [MASK] sample, each of context / windows tokens
  int piece = 500;              // tokens of the row that a window is made of
  double generation = 0.7;      // probability of a [gMASK] sample
  double mask_ratio = 0.15;     // of a window's tokens, at least, in spans
  double span_mean = 3;         // lambda of the Poisson distribution of span lengths, without 0
  double short_window = 0.02;   // probability that a window is cut short
  int shortest_window = 32;     // tokens that are left then, at least
  double single_span = 0.02;    // probability that a window has one span only
  double min_generation = 0.2;  // smallest part of a row that a [gMASK] sample generates
  int max_spans = 0;            // in a window; 0: as many as are drawn, and what does not fit is cut off
  bool redraw = false;          // in every epoch other blanks, and rows that begin elsewhere

  constexpr int window() const { return context / windows; }
  /// Tokens of the row that a window's piece is taken from: at a place drawn at random where it is longer than the piece.
  constexpr int stretch() const { return row / windows; }
};

inline constexpr int longest_span = 39;  // tokens of a blank

/// GLM-130B's own numbers. Most of its [MASK] windows overflow, and lose targets: its own quirk.
inline constexpr BlankRecipe glm_130b_recipe{};

/// The first rule that `r` breaks, as a sentence; nullptr where it breaks none.
constexpr const char* broken_rule(const BlankRecipe& r) {
  const auto probability = [](double p) { return p >= 0 && p <= 1; };
  if (r.windows < 1) return "golem: BlankRecipe::windows must be at least 1";
  if (r.row < 2 || r.row >= r.context)
    return "golem: BlankRecipe::row must be at least 2 and below BlankRecipe::context, since a [gMASK] sample has a token more";
  if (r.piece < 2 || r.piece > r.stretch()) return "golem: BlankRecipe::piece must be at least 2 and at most row / windows";
  if (r.piece > r.window()) return "golem: BlankRecipe::piece must be at most context / windows";
  if (r.shortest_window < 1 || r.shortest_window >= r.piece)
    return "golem: BlankRecipe::shortest_window must be at least 1 and below BlankRecipe::piece";
  if (r.max_spans < 0 || r.piece + 2 * r.max_spans > r.window()) return "golem: BlankRecipe::piece + 2 max_spans must be at most context / windows";
  if (!probability(r.generation) || !probability(r.short_window) || !probability(r.single_span))
    return "golem: BlankRecipe::generation, short_window and single_span must be probabilities";
  if (!(r.mask_ratio > 0 && r.mask_ratio < 1) || !probability(r.min_generation))
    return "golem: BlankRecipe::mask_ratio and min_generation must be parts of 1";
  if (!(r.span_mean > 0 && r.span_mean < longest_span)) return "golem: BlankRecipe::span_mean must be above 0 and below 39, the longest span";
  return nullptr;
}

/// The recipe for another context, and perhaps other spans, with nothing cut off: windows of up to 512 tokens, of which as much
/// is kept free as the spans need, a ninth for GLM-130B's, and no more spans than fit. [gMASK] samples fill the context. Throws
/// Error for a context below 16, and for spans that broken_rule() refuses.
constexpr BlankRecipe recipe(int context, double span_mean = BlankRecipe{}.span_mean, double mask_ratio = BlankRecipe{}.mask_ratio) {
  if (context < 16) fail("a recipe for a context of ", context, " tokens was asked for: spans with their marks need at least 16");
  BlankRecipe r;
  if (!(span_mean > 0 && span_mean < longest_span && mask_ratio > 0 && mask_ratio < 1))
    fail("blanks of ", span_mean, " tokens over ", mask_ratio, " of the text were asked for: the mean is above 0 and below ", longest_span, ", the longest, and the part between 0 and 1");
  r.context = context;
  r.row = context - 1;  // and [gMASK]
  r.windows = static_cast<int>(ceil_div(context, 512));
  r.span_mean = span_mean, r.mask_ratio = mask_ratio;
  const double mean = span_mean < 3 ? 1 + span_mean / 2 + span_mean * span_mean / 12 : span_mean;  // lambda / (1 - exp(-lambda)), nearly
  const double spans = mask_ratio / mean, more = 11.0 / 9;                                           // of a token of a piece; and some to spare
  r.max_spans = larger(1, static_cast<int>(more * spans / (1 + 2 * spans) * r.window() + 1e-9));     // each needs 2 tokens more than it masks
  r.piece = r.window() - 2 * r.max_spans;
  r.shortest_window = larger(4, r.piece / 16);
  r.redraw = true;
  return r;
}

}  // namespace golem
