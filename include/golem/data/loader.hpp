// Loader: training batches as a function of the sample's number, so that resuming is one integer and seeking is free.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "golem/core/batch.hpp"
#include "golem/core/stateful.hpp"
#include "golem/data/blank_infilling.hpp"
#include "golem/data/corpus.hpp"
#include "golem/data/glm_130b_order.hpp"
#include "golem/data/instruction_set.hpp"
#include "golem/data/instruction_window.hpp"
#include "golem/data/sample.hpp"
#include "golem/data/sample_order.hpp"
#include "golem/data/words.hpp"

namespace golem {

struct LoaderOptions {
  std::uint64_t seed = 1234;  // of the order of the rows; the original's order begins without one
  int rank = 0, ranks = 1;    // of the data-parallel axis: each sample goes to one rank
  using Order = RowOrder;
  Order order = Order::shuffled;
  Glm130bRows::Part part = Glm130bRows::Part::training;  // of the corpus, in the original's order
  const InstructionSet* instructions = nullptr;          // mixed among the rows; must outlive the loader
  const InstructionSet* former = nullptr;                // what `instructions` replace along the ramp, in the original's order
  InstructionMix mix = {};
  Words words = {};  // given: blanks are of whole words
};

/// Endless batches from a corpus, with instructions among them. What sample s is, SampleOrder says; its blanks are drawn
/// from the row (and the epoch, where the recipe draws anew: rows then begin elsewhere too, so that text is seen with what
/// comes before it, and at other positions): it does not depend on the batch or the rank that asks. The
/// corpus must outlive the loader.
class Loader {
 public:
  Loader(const Corpus& corpus, const BlankRecipe& recipe, const SpecialTokens& special, const LoaderOptions& options = {})
      : corpus_(&corpus), infilling_(recipe, special, options.words), special_(special), options_(options),
        order_(options.order, options.seed, options.part, {corpus.rows(), pairs(options.instructions), pairs(options.former), recipe.windows}, options.mix) {
    require(corpus.header().row == recipe.row, "a corpus with rows of ", corpus.header().row, " tokens was given to a recipe for rows of ",
            recipe.row, ": build the corpus for this context");
    require(options.ranks >= 1 && options.rank >= 0 && options.rank < options.ranks, "data rank ", options.rank, " of ", options.ranks,
            " does not exist");
    for (const InstructionSet* set : {options.instructions, options.former})
      require(!set || set->tokenizer() == corpus.header().tokenizer, "the instructions were made with another tokenizer than the corpus: make them again");
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
  /// Rows of text that the samples are drawn from: those of the corpus, or of a part of it in the original's order.
  std::int64_t rows() const { return order_.text_items(); }
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
  void reshuffle(std::uint64_t seed) { order_.reseed(static_cast<std::int64_t>(seed)); }

  /// Throws Error where a state of other data, or of another order, is loaded. Instructions that the saved run did not
  /// have begin where it goes on.
  void visit_state(StateVisitor& visitor) {
    const SampleCounts& here = order_.counts();
    std::int64_t position = position_, seed = order_.seed(), rows = here.rows, order = static_cast<std::int64_t>(order_.order());
    std::int64_t instructions = here.instructions, former = here.former;
    const std::int64_t words_here = options_.words.empty() ? 0 : 1;
    std::int64_t whole_words = words_here;
    InstructionMix mix = order_.mix();
    const BlankRecipe& recipe = infilling_.recipe();
    double span_mean = recipe.span_mean, mask_ratio = recipe.mask_ratio, generation = recipe.generation;
    visitor.integer("loader.position", position);
    visitor.integer("loader.seed", seed);
    visitor.integer("loader.rows", rows);
    visitor.integer("loader.order", order);
    visitor.integer("loader.whole_words", whole_words);
    visitor.real("loader.span_mean", span_mean);
    visitor.real("loader.mask_ratio", mask_ratio);
    visitor.real("loader.generation", generation);
    visitor.integer("loader.instructions", instructions);
    visitor.integer("loader.former_instructions", former);
    visitor.integer("loader.instructions_from", mix.from);
    visitor.integer("loader.instructions_ramp", mix.ramp);
    visitor.real("loader.instructions_part", mix.part);
    require(rows == here.rows, "the saved run read a corpus of ", rows, " rows, and this one has ", here.rows,
            ": go on with the corpus that it began with");
    require(order == static_cast<std::int64_t>(order_.order()), "the saved run read its rows in another order, of kind ", order,
            ": go on with the order that it began with");
    require(whole_words == words_here, "the saved run made blanks of ", whole_words ? "whole words" : "any tokens", ", and this one makes them of ",
            words_here ? "whole words" : "any tokens", ": go on as it began");
    require(span_mean == recipe.span_mean && mask_ratio == recipe.mask_ratio, "the saved run made blanks of ", span_mean, " tokens over ", mask_ratio, " of the text, and this one makes them of ",
            recipe.span_mean, " over ", recipe.mask_ratio, ": go on as it began");
    require(generation == recipe.generation, "the saved run made a [gMASK] sample of ", generation, " of its rows, and this one makes it of ", recipe.generation, ": go on as it began");
    const bool begin_here = instructions == 0 && here.instructions > 0;
    require(begin_here || (instructions == here.instructions && former == here.former), "the saved run had ", instructions, " instructions (and ", former,
            " former ones), and here are ", here.instructions, " (and ", here.former, "): go on with those that it began with");
    check(mix);
    seek(position);
    order_.reseed(seed);
    if (!begin_here) order_.mix() = mix;
    else order_.mix().from = std::max(order_.mix().from, position);
  }

 private:
  static std::int64_t pairs(const InstructionSet* set) { return set ? set->pairs() : 0; }

  void append(std::int64_t number) {
    const SampleOrigin origin = order_.origin(number);
    if (origin.kind == SampleOrigin::Kind::text) make_text(origin);
    else make_instructions(origin.kind == SampleOrigin::Kind::instructions ? *options_.instructions : *options_.former, origin.row);
    batch_.tokens.insert(batch_.tokens.end(), sample_.tokens.begin(), sample_.tokens.end());
    batch_.positions.insert(batch_.positions.end(), sample_.positions.begin(), sample_.positions.end());
    for (std::size_t i = 0; i < sample_.labels.size(); ++i) batch_.targets.push_back(sample_.scored[i] ? sample_.labels[i] : -1);
    batch_.windows.insert(batch_.windows.end(), sample_.windows.begin(), sample_.windows.end());
    batch_.first_window.push_back(static_cast<std::int32_t>(batch_.windows.size()));
    batch_.tasks.push_back(sample_.task);
  }

  void make_text(const SampleOrigin& origin) {
    const BlankRecipe& recipe = infilling_.recipe();
    const std::int64_t epoch = recipe.redraw ? origin.epoch : 0, step = 1 + static_cast<std::int64_t>(0.618 * recipe.row);  // far from where it began before
    infilling_.make(sample_, corpus_->row(origin.row, epoch * step % recipe.row), static_cast<std::uint64_t>(epoch * corpus_->rows() + origin.row));
  }

  void make_instructions(const InstructionSet& set, std::int64_t row) {
    const BlankRecipe& recipe = infilling_.recipe();
    sample_.clear();
    sample_.task = Task::instruction;
    for (int w = 0; w < recipe.windows; ++w) {
      const std::int64_t pair = order_.pair(row * recipe.windows + w, set.pairs());
      add_instruction_window(sample_, set.text(pair), set.target(pair), w + 1 == recipe.windows ? recipe.context : (w + 1) * recipe.window(), special_);
    }
  }

  const Corpus* corpus_;
  BlankInfilling infilling_;
  SpecialTokens special_;
  LoaderOptions options_;
  SampleOrder order_;
  std::int64_t position_ = 0;
  Sample sample_;
  Batch batch_;
};

}  // namespace golem
