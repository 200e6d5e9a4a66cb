// Blank infilling: a row of the corpus becomes a training sample, [MASK] or [gMASK] (spec 2.5; every random call as in spec 2.8).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "golem/config/special_tokens.hpp"
#include "golem/core/error.hpp"
#include "golem/core/math.hpp"
#include "golem/data/blank_recipe.hpp"
#include "golem/data/mersenne.hpp"
#include "golem/data/sample.hpp"
#include "golem/data/words.hpp"

namespace golem {

/// Makes samples of one recipe. Keeps its work space from call to call.
class BlankInfilling {
 public:
  /// With `words`, the spans that become blanks are stretched to whole words.
  BlankInfilling(const BlankRecipe& recipe, const SpecialTokens& special, Words words = {}) : recipe_(recipe), special_(special), words_(std::move(words)) {
    if (const char* rule = broken_rule(recipe)) fail(rule);
    double sum = 0;  // a running sum in double, as the original's, decides where a draw falls
    for (int k = 1; k <= longest_span; ++k) {
      sum += std::exp(k * std::log(recipe.span_mean) - std::lgamma(k + 1.0) - recipe.span_mean);
      cumulative_[static_cast<std::size_t>(k - 1)] = sum;
    }
  }

  const BlankRecipe& recipe() const { return recipe_; }

  /// The sample of `source` (recipe().row tokens) under `seed`: the same whoever makes it. For GLM-130B the seed is the
  /// row's number.
  void make(Sample& sample, std::span<const std::int32_t> source, std::uint64_t seed) {
    require(source.size() == static_cast<std::size_t>(recipe_.row), "a sample was to be made of ", source.size(), " tokens by a recipe for rows of ",
            recipe_.row);
    PythonRandom random(PythonRandom(seed).below(std::uint64_t{1} << 32));
    sample.clear();
    if (random.uniform() < 1 - recipe_.generation) {
      sample.task = Task::blank;
      for (int w = 0; w < recipe_.windows; ++w) {
        const int spare = recipe_.stretch() - recipe_.piece;  // GLM-130B's pieces fill their stretch: no draw
        const int begin = w * recipe_.stretch() + (spare > 0 ? static_cast<int>(random.below(static_cast<std::uint64_t>(spare) + 1)) : 0);
        const int end = w + 1 == recipe_.windows ? recipe_.context : (w + 1) * recipe_.window();
        add_blank_window(sample, source.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(recipe_.piece)), end, random);
      }
    } else {
      sample.task = Task::generation;
      make_generation(sample, source, random);
    }
  }

 private:
  struct Span {
    int begin, length;
    int blank;  // which [MASK] of the window, in text order
  };

  int draw_length(PythonRandom& random) const {
    const double x = random.uniform() * cumulative_.back();
    return static_cast<int>(std::upper_bound(cumulative_.begin(), cumulative_.end() - 1, x) - cumulative_.begin()) + 1;
  }

  void make_generation(Sample& sample, std::span<const std::int32_t> source, PythonRandom& random) const {
    const int row = recipe_.row, least = larger(1, static_cast<int>(recipe_.min_generation * row));
    const int generated = least + static_cast<int>(random.below(static_cast<std::uint64_t>(row - least + 1))), division = row - generated;
    std::int32_t position = 0;
    for (int i = 0; i < division; ++i) sample.read(source[static_cast<std::size_t>(i)], position++);
    sample.read(special_.gmask, position++);
    sample.predict(special_.sop, source[static_cast<std::size_t>(division)], position++);
    for (int i = division + 1; i < row; ++i) sample.predict(source[static_cast<std::size_t>(i - 1)], source[static_cast<std::size_t>(i)], position++);
    sample.fit(static_cast<std::size_t>(recipe_.context), special_.pad, position, 1);
    sample.windows.push_back({0, recipe_.context, division + 1});
  }

  /// Appends `text` with blanks, its answers, and pads up to token `end` of the sample.
  void add_blank_window(Sample& sample, std::span<const std::int32_t> text, int end, PythonRandom& random) {
    if (random.uniform() < recipe_.short_window)
      text = text.first(static_cast<std::size_t>(recipe_.shortest_window) +
                        random.below(text.size() - static_cast<std::size_t>(recipe_.shortest_window)));
    draw_spans(static_cast<int>(text.size()), random);
    if (!words_.empty()) stretch_to_words(text);

    const std::size_t start = sample.tokens.size();
    std::int32_t position = 0;
    int at = 0;
    blank_positions_.clear();
    for (const Span& span : spans_) {
      for (; at < span.begin; ++at) sample.read(text[static_cast<std::size_t>(at)], position++);
      blank_positions_.push_back(position);
      sample.read(special_.mask, position++);
      at = span.begin + span.length;
    }
    for (; at < static_cast<int>(text.size()); ++at) sample.read(text[static_cast<std::size_t>(at)], position++);
    const auto division = static_cast<std::int32_t>(sample.tokens.size() - start);

    random.shuffle(spans_);
    for (const Span& span : spans_) {
      const std::int32_t place = blank_positions_[static_cast<std::size_t>(span.blank)];
      for (int i = 0; i <= span.length; ++i) {
        const auto before = static_cast<std::size_t>(span.begin + i - 1), here = static_cast<std::size_t>(span.begin + i);
        sample.predict(i == 0 ? special_.sop : text[before], i == span.length ? special_.eop : text[here], place);
      }
    }
    sample.fit(static_cast<std::size_t>(end), special_.pad, 0, 0);
    sample.windows.push_back({static_cast<std::int32_t>(start), end, division});
  }

  /// Fills spans_, in text order: lengths that add up to the mask ratio, shuffled, at least one token apart.
  void draw_spans(int length, PythonRandom& random) {
    lengths_.clear();
    int masked = 0;
    if (random.uniform() < recipe_.single_span) {
      lengths_.push_back(masked = draw_length(random));
    } else {
      const int wanted = larger(1, static_cast<int>(recipe_.mask_ratio * length));  // a window without a target teaches nothing
      while (masked < wanted && (recipe_.max_spans == 0 || static_cast<int>(lengths_.size()) < recipe_.max_spans)) {
        lengths_.push_back(draw_length(random));
        masked += lengths_.back();
      }
    }
    shorten(length, masked);
    random.shuffle(lengths_);
    const int free = length - masked - static_cast<int>(lengths_.size()) + 1;
    offsets_.clear();
    for (std::size_t i = 0; i < lengths_.size(); ++i) offsets_.push_back(static_cast<int>(random.below(static_cast<std::uint64_t>(free) + 1)));
    std::sort(offsets_.begin(), offsets_.end());
    spans_.clear();
    int shift = 0;
    for (std::size_t i = 0; i < lengths_.size(); ++i) {
      spans_.push_back({shift + offsets_[i], lengths_[i], static_cast<int>(i)});
      shift += lengths_[i] + 1;
    }
  }

  /// Moves the borders of spans_ to those of words: outwards, but where no token would stay between two spans.
  void stretch_to_words(std::span<const std::int32_t> text) {
    const auto continues = [&](int at) { return at > 0 && at < static_cast<int>(text.size()) && words_.continues(text[static_cast<std::size_t>(at - 1)], text[static_cast<std::size_t>(at)]); };
    std::size_t kept = 0;
    int free = 0;  // the first token that a span may have
    for (const Span& span : spans_) {
      int begin = larger(span.begin, free), end = span.begin + span.length;
      while (continues(end)) ++end;
      while (begin > free && continues(begin)) --begin;
      while (begin < end && continues(begin)) ++begin;  // the span before it ends too near to that word's beginning
      if (begin >= end) continue;
      spans_[kept] = {begin, end - begin, static_cast<int>(kept)};
      ++kept, free = end + 1;
    }
    spans_.resize(kept);
  }

  /// Where spans do not fit, as in windows that are cut short: the last ones give way until the others do, with a token between any two.
  void shorten(int length, int& masked) {
    while (!lengths_.empty() && masked + static_cast<int>(lengths_.size()) - 1 > length) {
      const int excess = masked + static_cast<int>(lengths_.size()) - 1 - length;
      int& last = lengths_.back();
      if (last > excess) {
        last -= excess, masked -= excess;
      } else {
        masked -= last;
        lengths_.pop_back();
      }
    }
  }

  BlankRecipe recipe_;
  SpecialTokens special_;
  Words words_;
  std::array<double, longest_span> cumulative_{};
  std::vector<int> lengths_, offsets_;
  std::vector<Span> spans_;
  std::vector<std::int32_t> blank_positions_;
};

}  // namespace golem
