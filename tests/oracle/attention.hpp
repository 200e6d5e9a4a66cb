// Attention from its definition, in double and with plain loops: what every engine's attention must agree with.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "golem/core/batch.hpp"
#include "golem/core/random.hpp"

namespace golem::oracle {

/// Spec 2.3, 2.5, 7.2: token i of a row sees token j of its own window where j <= i or j is in the window's prefix, and the tokens
/// of the window's context.
inline bool sees(const std::vector<Window>& windows, int i, int j) {
  for (const Window& w : windows)
    if (i >= w.begin && i < w.end) return (j >= w.begin && j < w.end && (j <= i || j < w.begin + w.prefix)) || (j >= w.context_begin && j < w.context_end);
  return false;
}

struct AttentionCase {
  int rows = 1, length = 1, heads = 1, dims = 2;
  std::vector<std::vector<Window>> windows;  // of each row
  double scale = 1;
  double dropout = 0;
  Random random{};
  int sharers = 1;  // query heads that share a key and a value, which lie behind their queries

  std::size_t qkv_size() const { return std::size_t(rows) * length * (heads / sharers) * (sharers + 2) * dims; }
  /// In (N, G, S + 2, D), the query (0) of head h, or the key (1) or value (2) that it attends to.
  std::size_t at(int part, int b, int t, int h, int d) const {
    const int group = h / sharers, place = part == 0 ? h % sharers : sharers + part - 1;
    return ((std::size_t(b * length + t) * (heads / sharers) + group) * (sharers + 2) + place) * dims + d;
  }
  std::size_t out_size() const { return std::size_t(rows) * length * heads * dims; }

  /// 0, or 1 / (1 - rate), of probability (b, h, i, j).
  double kept(int b, int h, int i, int j) const {
    if (dropout == 0) return 1;
    const std::uint64_t element = ((std::uint64_t(b) * heads + h) * length + i) * length + j;
    const std::uint32_t half_word = random.bits(element / 8).word[element % 8 / 2] >> (element % 2 * 16) & 0xffff;
    return half_word >= std::uint32_t(std::lround(dropout * 65536)) ? 1 / (1 - dropout) : 0;
  }
};

struct Attended {
  std::vector<double> out;      // (N, H, D)
  std::vector<double> log_sum;  // (B, H, T)
};

inline Attended attend(const AttentionCase& c, const std::vector<double>& qkv) {
  const auto at = [&](int part, int b, int t, int h, int d) { return qkv[c.at(part, b, t, h, d)]; };
  Attended result{std::vector<double>(c.out_size()), std::vector<double>(std::size_t(c.rows) * c.heads * c.length)};
  std::vector<double> scores(c.length);
  for (int b = 0; b < c.rows; ++b)
    for (int h = 0; h < c.heads; ++h)
      for (int i = 0; i < c.length; ++i) {
        double top = -std::numeric_limits<double>::infinity(), sum = 0;
        for (int j = 0; j < c.length; ++j) {
          scores[j] = 0;
          for (int d = 0; d < c.dims; ++d) scores[j] += c.scale * at(0, b, i, h, d) * at(1, b, j, h, d);
          if (sees(c.windows[b], i, j)) top = std::max(top, scores[j]);
        }
        for (int j = 0; j < c.length; ++j) sum += scores[j] = sees(c.windows[b], i, j) ? std::exp(scores[j] - top) : 0;
        if (sum == 0) continue;
        result.log_sum[(std::size_t(b) * c.heads + h) * c.length + i] = top + std::log(sum);
        for (int j = 0; j < c.length; ++j) {
          if (scores[j] == 0) continue;
          const double p = scores[j] / sum * c.kept(b, h, i, j);
          for (int d = 0; d < c.dims; ++d) result.out[(std::size_t(b * c.length + i) * c.heads + h) * c.dims + d] += p * at(2, b, j, h, d);
        }
      }
  return result;
}

}  // namespace golem::oracle
