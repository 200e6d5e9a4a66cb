// The order of GLM-130B's training data: which rows of the corpus are held out, and which row a sample reads (spec 2.5, 2.8).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/data/mersenne.hpp"

namespace golem {

/// numpy's default_rng(seed) for a seed of 32 bits: PCG64 (XSL RR 128/64), its state mixed from the seed by SeedSequence.
class NumpyGenerator {
 public:
  explicit NumpyGenerator(std::uint32_t seed) {
    std::uint32_t pool[4]{}, hash = 0x43b0d7e5;
    const auto hashed = [&hash](std::uint32_t value, std::uint32_t multiplier) {
      value ^= hash;
      hash *= multiplier;
      value *= hash;
      return value ^ value >> 16;
    };
    for (int i = 0; i < 4; ++i) pool[i] = hashed(i == 0 ? seed : 0, 0x931e8875);
    for (int from = 0; from < 4; ++from)
      for (int to = 0; to < 4; ++to)
        if (to != from) {
          const std::uint32_t mixed = 0xca01f9dd * pool[to] - 0x4973f715 * hashed(pool[from], 0x931e8875);
          pool[to] = mixed ^ mixed >> 16;
        }
    hash = 0x8b51f9dd;
    std::uint64_t words[4];
    for (int i = 0; i < 4; ++i) {
      const std::uint64_t low = hashed(pool[2 * i % 4], 0x58f38ded), high = hashed(pool[(2 * i + 1) % 4], 0x58f38ded);
      words[i] = high << 32 | low;
    }
    increment_ = (Wide{words[2]} << 64 | words[3]) << 1 | 1;
    step();
    state_ += Wide{words[0]} << 64 | words[1];
    step();
  }

  /// The low half of a 64-bit draw, then its high half.
  std::uint32_t word() {
    if (std::exchange(half_left_, !half_left_)) return static_cast<std::uint32_t>(drawn_ >> 32);
    step();
    drawn_ = std::rotr(static_cast<std::uint64_t>(state_ >> 64) ^ static_cast<std::uint64_t>(state_), static_cast<int>(state_ >> 122));
    return static_cast<std::uint32_t>(drawn_);
  }

  /// permutation(n), n below 2^32.
  std::vector<std::int32_t> permutation(std::int32_t n) {
    std::vector<std::int32_t> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    for (std::size_t i = order.size(); i-- > 1;) {
      const std::uint32_t mask = (std::uint32_t{1} << std::bit_width(i)) - 1;
      std::uint32_t j = word() & mask;
      while (j > i) j = word() & mask;
      std::swap(order[i], order[j]);
    }
    return order;
  }

 private:
  __extension__ typedef unsigned __int128 Wide;

  void step() { state_ = state_ * (Wide{0x2360ed051fc65da4} << 64 | 0x4385df649fccf645) + increment_; }

  Wide state_ = 0, increment_ = 0;
  std::uint64_t drawn_ = 0;
  bool half_left_ = false;
};

/// Rows of the corpus that GLM-130B used for one purpose: of every 10,000 rows the same 9490, 500 or 10.
class Glm130bRows {
 public:
  enum class Part : std::uint8_t { training, validation, test };

  explicit Glm130bRows(Part part) {
    constexpr std::array<int, 4> ends{0, 9490, 9990, block};
    const auto order = NumpyGenerator(1130).permutation(block);
    const auto p = static_cast<std::size_t>(part);
    rows_.assign(order.begin() + ends[p], order.begin() + ends[p + 1]);
    std::sort(rows_.begin(), rows_.end());
  }

  /// The row of item i, as it is numbered in the corpus file; its number is the seed of its blanks.
  std::int64_t row(std::int64_t i) const {
    const auto n = static_cast<std::int64_t>(rows_.size());
    require(i >= 0, "item ", i, " of GLM-130B's rows was asked for: the first is 0");
    return i / n * block + rows_[static_cast<std::size_t>(i % n)];
  }

  /// How many items there are in a corpus of `rows` rows.
  std::int64_t size(std::int64_t rows) const {
    const auto last = std::lower_bound(rows_.begin(), rows_.end(), static_cast<std::int32_t>(rows % block));
    return rows / block * static_cast<std::int64_t>(rows_.size()) + (last - rows_.begin());
  }

 private:
  static constexpr std::int32_t block = 10000;
  std::vector<std::int32_t> rows_;
};

/// The generator of number i: MT19937 under a key of sixteen words that Python draws for i, each XORed with `order_key`.
inline PythonRandom glm_130b_random(std::int64_t i, std::uint32_t order_key = 0) {
  require(i >= 0, "the draws of number ", i, " were asked for: the first is 0");
  PythonRandom seeds(static_cast<std::uint64_t>(i));
  std::uint32_t key[16];
  for (std::uint32_t& word : key) word = order_key ^ static_cast<std::uint32_t>(seeds.below(std::uint64_t{1} << 32));
  return PythonRandom(key);
}

/// Which of `n` items GLM-130B's training sample i is: drawn with replacement, each draw a function of i alone. After its
/// order of data was changed, every word of the key was XORed with glm_130b_order_key(data_shuffle_seed).
inline std::int64_t glm_130b_item(std::int64_t i, std::int64_t n, std::uint32_t order_key = 0) {
  require(n >= 1, "sample ", i, " of ", n, " items cannot be drawn: there must be at least 1");
  PythonRandom random = glm_130b_random(i, order_key);
  const auto last = static_cast<std::uint64_t>(n - 1);  // numpy's legacy randint(n)
  if (last == 0) return 0;
  const std::uint64_t mask = ~std::uint64_t{0} >> std::countl_zero(last);
  for (;;) {
    std::uint64_t drawn = random.word();
    if (last > 0xffffffffu) drawn = drawn << 32 | random.word();
    if ((drawn & mask) <= last) return static_cast<std::int64_t>(drawn & mask);
  }
}

/// What decides whether row i of instructions comes from the new set or the former one while one replaces the other.
inline double glm_130b_chance(std::int64_t i) { return glm_130b_random(i).uniform(); }

/// Random(data_shuffle_seed).randint(0, 2^32 - 1): the lever that GLM-130B's training had from 2022-05-29 on.
inline std::uint32_t glm_130b_order_key(std::uint64_t data_shuffle_seed) {
  return static_cast<std::uint32_t>(PythonRandom(data_shuffle_seed).below(std::uint64_t{1} << 32));
}

}  // namespace golem
