// BeamSearch: GLM-130B's beam search on the host: from the logits of its beams to their next tokens, step by step (spec 6.2).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/random.hpp"
#include "golem/core/tensor.hpp"

namespace golem {

struct BeamSearchOptions {
  int beams = 4;
  double length_penalty = 1;  // scores are divided by ((5 + length) / 6) to this power, the context counted in the length
  int no_repeat_ngram = 0;    // no run of so many tokens twice among what is generated; 0: runs may come again
  int min_tokens = 0;         // no end token before
  int max_tokens = 256;       // generated
  enum class Choice : std::uint8_t { best, sampled } choice = Choice::best;  // of candidates: the best, or drawn without replacement
  bool consider_end = true;   // returned are the beams that ended, and the live ones where those are too few; else the live ones alone
  std::uint64_t seed = 1234;  // of sampled candidates
  std::uint64_t answer = 0;   // its number among those of the seed: each answer draws its own candidates
  std::span<const std::int32_t> invalid = {};  // tokens that are never taken; must outlive the search
};

/// An answer of a beam search.
struct Beam {
  std::vector<std::int32_t> tokens;  // generated, without the end token
  double score = 0;                  // log-probability, after the length penalty
  bool ended = false;                // by an end token
};

class BeamSearch {
 public:
  /// A beam that goes on: `parent` is its place among the live beams before the last step.
  struct Live {
    std::vector<std::int32_t> tokens;  // the context, and what was generated
    double score = 0;                  // log-probability of what was generated
    std::size_t parent = 0;
  };

  /// Searches behind `context` until an end token of `ends`.
  BeamSearch(const BeamSearchOptions& options, std::span<const std::int32_t> context, std::span<const std::int32_t> ends)
      : options_(options), context_(context.size()), ends_(ends.begin(), ends.end()) {
    require(options.beams >= 1, "a search with ", options.beams, " beams was asked for: at least 1");
    require(options.no_repeat_ngram == 0 || options.no_repeat_ngram >= 2, "a search without repeated runs of ", options.no_repeat_ngram,
            " tokens was asked for: at least 2, or 0 to let them repeat");
    require(std::isfinite(options.length_penalty), "a search with a length penalty of ", options.length_penalty, " was asked for: it must be a finite number, 0 for none");
    live_.push_back({.tokens = {context.begin(), context.end()}});
  }

  const std::vector<Live>& live() const { return live_; }
  /// Whether no live beam can become better than the worst that ended, or go on at all.
  bool done() const { return done_ || stuck_ || live_.empty(); }

  /// One step: `logits` (beams, V), a row for each live beam. Where few tokens may be taken fewer beams go on; where none may, all stay as they are
  /// and the search is done. Throws Error where none may be taken at once.
  template <class A>
  void advance(View<const A, 2> logits) {
    require(logits.extent(0) == static_cast<std::int64_t>(live_.size()), "a beam search of ", live_.size(), " beams was given logits of ", logits.extent(0));
    const auto vocab = static_cast<std::size_t>(logits.extent(1));
    scores_.resize(live_.size() * vocab);
    for (std::size_t b = 0; b < live_.size(); ++b) score(logits.row(static_cast<std::int64_t>(b)), b, vocab);
    choose((std::max<std::size_t>(1, ends_.size()) + 1) * static_cast<std::size_t>(options_.beams));
    stuck_ = chosen_.empty();
    require(!stuck_ || steps_ > 0, "no token is left to take: all ", vocab, " are banned");
    if (stuck_) return;

    std::vector<Live> next;
    for (const std::size_t candidate : chosen_) {
      const std::size_t parent = candidate / vocab;
      const auto token = static_cast<std::int32_t>(candidate % vocab);
      const bool ends = std::find(ends_.begin(), ends_.end(), token) != ends_.end();
      if (!ends && next.size() == static_cast<std::size_t>(options_.beams)) break;  // what ends behind it does not count
      std::vector<std::int32_t> tokens = live_[parent].tokens;
      tokens.push_back(token);
      if (ends) add_ended(std::move(tokens), scores_[candidate], true);
      else next.push_back({.tokens = std::move(tokens), .score = scores_[candidate], .parent = parent});
    }
    live_ = std::move(next);
    ++steps_;
    if (live_.empty() || ended_.size() < static_cast<std::size_t>(options_.beams)) return;
    double best = live_.front().score;
    for (const Live& beam : live_) best = std::max(best, beam.score);
    done_ = ended_.back().score >= penalized(best, live_.front().tokens.size());
  }

  /// The answers, best first; at most as many as beams.
  std::vector<Beam> finish() const {
    std::vector<Beam> answers;
    if (!options_.consider_end) {
      for (const Live& beam : live_) answers.push_back({generated(beam.tokens, false), penalized(beam.score, beam.tokens.size()), false});
      return answers;
    }
    BeamSearch whole(*this);
    if (!done_)
      for (const Live& beam : live_) whole.add_ended(beam.tokens, beam.score, false);
    for (Ended& beam : whole.ended_) answers.push_back({generated(beam.tokens, beam.ended), beam.score, beam.ended});
    return answers;
  }

 private:
  struct Ended {
    std::vector<std::int32_t> tokens;
    double score = 0;
    bool ended = false;
  };

  double penalized(double score, std::size_t length) const { return score / std::pow((5.0 + static_cast<double>(length)) / 6.0, options_.length_penalty); }

  std::vector<std::int32_t> generated(const std::vector<std::int32_t>& tokens, bool ended) const {
    return {tokens.begin() + static_cast<std::ptrdiff_t>(context_), tokens.end() - (ended ? 1 : 0)};
  }

  /// Log-softmax of a beam's logits, without what is banned, on top of the beam's score; -infinity for what is.
  template <class A>
  void score(const A* logits, std::size_t beam, std::size_t vocab) {
    constexpr double lowest = -65504;  // of fp16: a ban in the original, whose sum has it
    banned_.clear();
    double* scores = scores_.data() + beam * vocab;
    for (std::size_t v = 0; v < vocab; ++v) scores[v] = static_cast<double>(logits[v]);
    const auto ban = [&](std::int32_t token) {
      require(token >= 0 && static_cast<std::size_t>(token) < vocab, "token ", token, " is banned, and the vocabulary has ", vocab, ": the special tokens are another tokenizer's");
      scores[token] = lowest;
      banned_.push_back(token);
    };
    for (const std::int32_t token : options_.invalid) ban(token);
    if (steps_ < options_.min_tokens)
      for (const std::int32_t token : ends_) ban(token);
    const std::vector<std::int32_t>& tokens = live_[beam].tokens;
    const auto n = static_cast<std::size_t>(options_.no_repeat_ngram);
    if (n > 0 && tokens.size() > n)
      for (std::size_t at = std::max(context_, n - 1); at < tokens.size(); ++at)
        if (std::equal(tokens.end() - static_cast<std::ptrdiff_t>(n - 1), tokens.end(), tokens.begin() + static_cast<std::ptrdiff_t>(at - (n - 1))))
          ban(tokens[at]);
    const double largest = *std::max_element(scores, scores + vocab);
    double sum = 0;
    for (std::size_t v = 0; v < vocab; ++v) sum += std::exp(scores[v] - largest);
    require(std::isfinite(sum) && sum > 0, "the logits of beam ", beam, " hold NaN or infinity: the weights are damaged, or fp16 is too narrow for them");
    const double shift = live_[beam].score - largest - std::log(sum);
    for (std::size_t v = 0; v < vocab; ++v) scores[v] += shift;
    for (const std::int32_t token : banned_) scores[token] = -std::numeric_limits<double>::infinity();
  }

  /// Fills chosen_ with up to `count` candidates, best first, none of them banned.
  void choose(std::size_t count) {
    count = std::min(count, scores_.size());
    const auto better = [this](std::size_t a, std::size_t b) { return scores_[a] > scores_[b] || (scores_[a] == scores_[b] && a < b); };
    if (options_.choice == BeamSearchOptions::Choice::best) {
      chosen_.resize(scores_.size());
      std::iota(chosen_.begin(), chosen_.end(), std::size_t{0});
      std::partial_sort(chosen_.begin(), chosen_.begin() + static_cast<std::ptrdiff_t>(count), chosen_.end(), better);
      chosen_.resize(count);
      while (!chosen_.empty() && !std::isfinite(scores_[chosen_.back()])) chosen_.pop_back();
      return;
    }
    chosen_.clear();
    weights_.resize(scores_.size());
    const double largest = *std::max_element(scores_.begin(), scores_.end());
    for (std::size_t c = 0; c < scores_.size(); ++c) weights_[c] = std::exp(scores_[c] - largest);
    const Random random{options_.seed, stream_of("beam search") + (options_.answer << 32) + static_cast<std::uint64_t>(steps_)};
    while (chosen_.size() < count) {
      const double total = std::accumulate(weights_.begin(), weights_.end(), 0.0);
      if (!(total > 0)) break;
      double left = random.uniform(chosen_.size()) * total;
      std::size_t drawn = scores_.size();
      for (std::size_t c = 0; c < scores_.size() && left >= 0; ++c)
        if (weights_[c] > 0) left -= weights_[drawn = c];
      weights_[drawn] = 0;
      chosen_.push_back(drawn);
    }
    std::sort(chosen_.begin(), chosen_.end(), better);
  }

  /// Puts a beam among those that ended, before its equals, and keeps the best.
  void add_ended(std::vector<std::int32_t> tokens, double score, bool ended) {
    const double value = penalized(score, tokens.size());
    const auto place = std::find_if(ended_.begin(), ended_.end(), [&](const Ended& other) { return !(value < other.score); });
    ended_.insert(place, {std::move(tokens), value, ended});
    if (ended_.size() > static_cast<std::size_t>(options_.beams)) ended_.pop_back();
  }

  BeamSearchOptions options_;
  std::size_t context_;
  std::vector<std::int32_t> ends_;
  std::vector<Live> live_;
  std::vector<Ended> ended_;
  bool done_ = false, stuck_ = false;
  int steps_ = 0;
  std::vector<double> scores_, weights_;
  std::vector<std::size_t> chosen_;
  std::vector<std::int32_t> banned_;  // of the beam that is scored
};

}  // namespace golem
