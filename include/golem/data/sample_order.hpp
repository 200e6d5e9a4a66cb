// SampleOrder: what training sample s is made of, as a function of s: which row of the corpus, or which instructions (spec 2.5, 2.6).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

#include "golem/core/error.hpp"
#include "golem/core/random.hpp"
#include "golem/data/glm_130b_order.hpp"

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

enum class RowOrder : std::uint8_t {
  shuffled,  // a new order each epoch
  stored,    // for validation: the order of the file, and a row's blanks are always the same
  glm_130b,  // the original's: rows drawn with replacement from its part of the corpus, and a row's blanks are always the same
};

/// How instructions come among the rows.
struct InstructionMix {
  double part = 0.05;     // of the samples
  std::int64_t from = 0;  // the sample that they begin at
  std::int64_t ramp = 0;  // samples over which their part grows from 0
};

/// Throws Error for a mix that there cannot be.
inline void check(const InstructionMix& mix) {
  require(mix.part > 0 && mix.part <= 0.9 && mix.from >= 0 && mix.ramp >= 0, "instructions were to be ", mix.part, " of the samples from sample ", mix.from,
          " on with a ramp of ", mix.ramp, ": the part must be above 0 and at most 0.9, and the others not below 0");
}

/// What there is to draw from. Numbers of pairs are 0 where there are no such instructions.
struct SampleCounts {
  std::int64_t rows = 0;          // of the corpus, whole
  std::int64_t instructions = 0;  // pairs
  std::int64_t former = 0;        // pairs of the set that the instructions replace along the ramp
  int windows = 1;                // pairs of one sample
};

/// What a sample is made of.
struct SampleOrigin {
  enum class Kind : std::uint8_t { text, instructions, former_instructions } kind = Kind::text;
  std::int64_t row = 0;    // of the corpus; or of instructions, `windows` pairs each, in the order that pair() tells
  std::int64_t epoch = 0;  // how often all rows came before it
};

class SampleOrder {
 public:
  SampleOrder(RowOrder order, std::uint64_t seed, Glm130bRows::Part part, const SampleCounts& counts, const InstructionMix& mix)
      : order_(order), counts_(counts), mix_(mix), part_(part) {
    // The original's order has no seed until somebody gives it one.
    seed_ = order == RowOrder::glm_130b ? unseeded : static_cast<std::int64_t>(seed);
    check(mix);
    require(counts.former == 0 || (order == RowOrder::glm_130b && counts.instructions > 0),
            "a former set of instructions was given without the original's order and a set that replaces it: leave it out");
  }

  SampleOrigin origin(std::int64_t sample) const { return order_ == RowOrder::glm_130b ? drawn(sample) : counted(sample); }

  /// Which of `pairs` pairs is number `item` of the instructions: row r of instructions has items windows r, windows r + 1, ...
  std::int64_t pair(std::int64_t item, std::int64_t pairs) const {
    if (order_ == RowOrder::glm_130b) return glm_130b_item(item, pairs);
    const Random key{static_cast<std::uint64_t>(seed_), stream_of("instructions") + static_cast<std::uint64_t>(item / pairs)};
    return shuffled(item % pairs, pairs, key);
  }

  /// Samples of a part of the original's split: as many as it has rows.
  std::int64_t text_items() const { return order_ == RowOrder::glm_130b ? part_.size(counts_.rows) : counts_.rows; }

  RowOrder order() const { return order_; }
  /// Another order from here on.
  void reseed(std::int64_t seed) { seed_ = seed; }
  std::int64_t seed() const { return seed_; }
  InstructionMix& mix() { return mix_; }
  const SampleCounts& counts() const { return counts_; }

 private:
  static constexpr std::int64_t unseeded = -1;

  /// golem's own: instructions come evenly, so that every batch has its part of them, and the rows of text between them
  /// are all rows of the corpus, each once an epoch.
  SampleOrigin counted(std::int64_t sample) const {
    const std::int64_t before = instructions_before(sample);
    if (instructions_before(sample + 1) > before) return {.kind = SampleOrigin::Kind::instructions, .row = before};
    const std::int64_t text = sample - before, epoch = text / counts_.rows, place = text % counts_.rows;
    if (order_ == RowOrder::stored) return {.row = place, .epoch = 0};
    const Random order{static_cast<std::uint64_t>(seed_), stream_of("epoch") + static_cast<std::uint64_t>(epoch)};
    return {.row = shuffled(place, counts_.rows, order), .epoch = epoch};
  }

  std::int64_t instructions_before(std::int64_t sample) const {
    if (counts_.instructions == 0 || sample <= mix_.from) return 0;
    const auto since = static_cast<double>(sample - mix_.from), ramp = static_cast<double>(mix_.ramp);
    return static_cast<std::int64_t>(mix_.part * (since < ramp ? since * since / (2 * ramp) : since - ramp / 2));
  }

  /// The original's: one draw from its rows of text and as many rows of instructions as their part asks for.
  SampleOrigin drawn(std::int64_t sample) const {
    const std::uint32_t key = seed_ == unseeded ? 0 : glm_130b_order_key(static_cast<std::uint64_t>(seed_));
    const std::int64_t text = text_items(), pairs = counts_.former ? counts_.former : counts_.instructions;
    require(text > 0, "the original's split of a corpus of ", counts_.rows, " rows leaves none to this part: of every 10,000 it gives 9490 to training, 500 to ",
            "validation and 10 to the test; give more text");
    if (pairs == 0) return {.row = part_.row(glm_130b_item(sample, text, key))};
    const std::int64_t rows = std::max<std::int64_t>(1, pairs * 200 / counts_.windows);  // the original counts every pair 200 times
    const double weight = mix_.part * static_cast<double>(text) / (static_cast<double>(rows) * (1 - mix_.part));
    const std::int64_t item = glm_130b_item(sample, text + static_cast<std::int64_t>(static_cast<double>(rows) * weight), key);
    if (item < text) return {.row = part_.row(item)};
    const std::int64_t row = (item - text) % rows;
    if (!(glm_130b_chance(row) < 1 - ratio(sample))) return {.kind = SampleOrigin::Kind::instructions, .row = row};
    if (counts_.former) return {.kind = SampleOrigin::Kind::former_instructions, .row = row};
    return {.row = part_.row((item - text) % text)};  // no set was there before: a row of text in its place
  }

  /// How far the ramp has come. The original counts the rows that a worker has handed out; here it is the sample's number.
  double ratio(std::int64_t sample) const {
    if (sample < mix_.from) return 0;
    if (sample - mix_.from >= mix_.ramp) return 1;
    return static_cast<double>(sample - mix_.from) / static_cast<double>(mix_.ramp);
  }

  RowOrder order_;
  SampleCounts counts_;
  InstructionMix mix_;
  Glm130bRows part_;
  std::int64_t seed_ = unseeded;
};

}  // namespace golem
