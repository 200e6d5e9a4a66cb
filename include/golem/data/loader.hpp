// Loader: training batches as a function of the sample's number, so that resuming is one integer and seeking is free.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "golem/core/batch.hpp"
#include "golem/core/random.hpp"
#include "golem/core/stateful.hpp"
#include "golem/data/blank_infilling.hpp"
#include "golem/data/corpus.hpp"

namespace golem {

/// Where index `i` of 0 .. n-1 goes in the shuffle of `key`: a bijection without a table (four Feistel rounds on the next
/// power of four, walked until the value is below n).
inline std::int64_t shuffled(std::int64_t i, std::int64_t n, Random key) {
  int half = 1;
  while ((std::int64_t{1} << (2 * half)) < n) ++half;
  const std::uint64_t mask = (std::uint64_t{1} << half) - 1;
  auto value = static_cast<std::uint64_t>(i);
  do {
    std::uint64_t left = value >> half, right = value & mask;
    for (std::uint64_t round = 0; round < 4; ++round) {
      const std::uint64_t mixed = left ^ (key.bits(round << 48 | right).word[0] & mask);
      left = right, right = mixed;
    }
    value = left << half | right;
  } while (value >= static_cast<std::uint64_t>(n));
  return static_cast<std::int64_t>(value);
}

struct LoaderOptions {
  std::uint64_t seed = 1234;  // of the order of the rows
  int rank = 0, ranks = 1;    // of the data-parallel axis: each sample goes to one rank
  enum class Order : std::uint8_t {
    shuffled,  // a new order each epoch
    stored,    // for validation: the order of the file, and a row's blanks are always the same
  } order = Order::shuffled;
};

/// Endless batches from a corpus. Sample s is row s % rows of the shuffle of epoch s / rows, with blanks drawn from the
/// row (and the epoch, where the recipe draws anew): it does not depend on the batch or the rank that asks. The corpus must outlive the loader.
class Loader {
 public:
  Loader(const Corpus& corpus, const BlankRecipe& recipe, const SpecialTokens& special, const LoaderOptions& options = {})
      : corpus_(&corpus), infilling_(recipe, special), options_(options), seed_(static_cast<std::int64_t>(options.seed)) {
    require(corpus.header().row == recipe.row, "a corpus with rows of ", corpus.header().row, " tokens was given to a recipe for rows of ",
            recipe.row, ": build the corpus for this context");
    require(options.ranks >= 1 && options.rank >= 0 && options.rank < options.ranks, "data rank ", options.rank, " of ", options.ranks,
            " does not exist");
  }

  /// The next `rows` samples of this rank; valid until the next call.
  const Batch& next(int rows) {
    require(rows >= 1, "a batch of ", rows, " rows was asked for: at least 1");
    const int length = infilling_.recipe().context;
    batch_.rows = rows, batch_.length = length;
    batch_.tokens.clear(), batch_.positions.clear(), batch_.targets.clear(), batch_.windows.clear(), batch_.tasks.clear();
    batch_.first_window.assign(1, 0);
    for (int r = 0; r < rows; ++r) append(position_ + std::int64_t{options_.rank} * rows + r);
    position_ += std::int64_t{options_.ranks} * rows;
    return batch_;
  }

  /// Samples handed out so far, to all ranks.
  std::int64_t position() const { return position_; }
  /// Passes over `samples`: the data move on, nothing else does (spec 4.2).
  void skip(std::int64_t samples) {
    require(samples >= 0, "a loader cannot skip ", samples, " samples: only forward");
    position_ += samples;
  }
  /// Goes to any sample.
  void seek(std::int64_t position) {
    require(position >= 0, "a loader cannot go to sample ", position, ": the first is 0");
    position_ = position;
  }
  /// Another order of the rows from here on.
  void reshuffle(std::uint64_t seed) { seed_ = static_cast<std::int64_t>(seed); }

  /// Throws Error where a state of another corpus, or of none, is loaded.
  void visit_state(StateVisitor& visitor) {
    std::int64_t position = position_, seed = seed_, rows = corpus_->rows();
    visitor.integer("loader.position", position);
    visitor.integer("loader.seed", seed);
    visitor.integer("loader.rows", rows);
    require(rows == corpus_->rows(), "the saved run read a corpus of ", rows, " rows, and this one has ", corpus_->rows(),
            ": go on with the corpus that it began with");
    seek(position);
    seed_ = seed;
  }

 private:
  void append(std::int64_t number) {
    const std::int64_t rows = corpus_->rows(), epoch = number / rows, place = number % rows;
    const bool stored = options_.order == LoaderOptions::Order::stored;
    const Random order{static_cast<std::uint64_t>(seed_), stream_of("epoch") + static_cast<std::uint64_t>(epoch)};
    const std::int64_t row = stored ? place : shuffled(place, rows, order);
    const std::int64_t blanks = !stored && infilling_.recipe().redraw ? epoch * rows + row : row;
    infilling_.make(sample_, corpus_->row(row), static_cast<std::uint64_t>(blanks));
    batch_.tokens.insert(batch_.tokens.end(), sample_.tokens.begin(), sample_.tokens.end());
    batch_.positions.insert(batch_.positions.end(), sample_.positions.begin(), sample_.positions.end());
    for (std::size_t i = 0; i < sample_.labels.size(); ++i) batch_.targets.push_back(sample_.scored[i] ? sample_.labels[i] : -1);
    batch_.windows.insert(batch_.windows.end(), sample_.windows.begin(), sample_.windows.end());
    batch_.first_window.push_back(static_cast<std::int32_t>(batch_.windows.size()));
    batch_.tasks.push_back(sample_.task);
  }

  const Corpus* corpus_;
  BlankInfilling infilling_;
  LoaderOptions options_;
  std::int64_t position_ = 0, seed_ = 0;
  Sample sample_;
  Batch batch_;
};

}  // namespace golem
