// Which attention probabilities dropout keeps: a function of where each stands in the matrix that is never made.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "golem/core/op_arguments.hpp"
#include "golem/cpu/attention_mask.hpp"

namespace golem::cpu {

/// Probability e = ((b * H + h) * T + i) * T + j is kept where half-word e % 8 of block e / 8 is at least rate * 65536;
/// what is kept is multiplied by 1 / (1 - rate). The backward asks again and gets the same.
template <class A>
class ProbabilityDropout {
 public:
  explicit ProbabilityDropout(const AttentionOptions& options)
      : random_(options.random),
        threshold_(static_cast<std::uint32_t>(std::lround(options.dropout * 65536))),
        kept_(static_cast<A>(1 / (1 - options.dropout))) {}

  explicit operator bool() const { return threshold_ > 0; }

  /// factors (keys, 64 queries): 0 or 1 / (1 - rate). `element` is that of the first query and key, `step` that from query to query.
  void fill(A* factors, std::uint64_t element, std::uint64_t step, std::int64_t keys, int queries) const {
    for (int i = 0; i < queries; ++i, element += step) {
      Bits4 bits = random_.bits(element / 8);
      for (std::int64_t j = 0; j < keys; ++j) {
        const std::uint64_t e = element + static_cast<std::uint64_t>(j);
        if (e % 8 == 0) bits = random_.bits(e / 8);
        const std::uint32_t half_word = bits.word[e % 8 / 2] >> (e % 2 * 16) & 0xffff;
        factors[j * tile_queries + i] = half_word >= threshold_ ? kept_ : A{0};
      }
    }
  }

 private:
  Random random_;
  std::uint32_t threshold_;
  A kept_;
};

}  // namespace golem::cpu
