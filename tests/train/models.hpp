// Small models and batches that the tests of nn, train and infer share.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/config/model.hpp"
#include "golem/core/batch.hpp"
#include "golem/core/random.hpp"

namespace models {

template <golem::Norm norm, golem::Ffn ffn = golem::Ffn::geglu, golem::Mask mask = golem::Mask::prefix>
struct Small {
  // Without golem::checked, which clang 14 cannot call with template arguments; a Trainer proves it.
  static constexpr golem::ModelConfig config{.layers = 2, .hidden = 24, .heads = 3, .ffn = 20, .vocab = 37, .context = 24, .norm = norm, .ffn_kind = ffn, .mask = mask, .embedding_std = 0.5};
};

/// Three heads share each key.
struct Grouped {
  static constexpr auto config = golem::checked({.layers = 2, .hidden = 24, .heads = 6, .kv_heads = 2, .ffn = 20, .vocab = 37, .context = 24, .embedding_std = 0.5});
};

/// Rows of two windows each, with random tokens, prefixes and targets; every third token is not scored. In every other row the
/// second window has a part of the first as its context.
inline golem::Batch random_batch(int rows, int length, int vocab, std::uint64_t seed) {
  const golem::Random random{seed, 7};
  golem::Batch batch{.rows = rows, .length = length};
  std::uint64_t draw = 0;
  batch.first_window.push_back(0);
  for (int r = 0; r < rows; ++r) {
    const int cut = length / 2 + r % 2;
    batch.windows.push_back({0, cut, static_cast<std::int32_t>(random.below(draw++, static_cast<std::uint64_t>(cut)))});
    batch.windows.push_back({cut, length, static_cast<std::int32_t>(random.below(draw++, static_cast<std::uint64_t>(length - cut)))});
    if (r % 2) batch.windows.back().context_begin = 1, batch.windows.back().context_end = cut - 1;
    batch.first_window.push_back(static_cast<std::int32_t>(batch.windows.size()));
    batch.tasks.push_back(r % 2 ? golem::Task::generation : golem::Task::blank);
    for (int t = 0; t < length; ++t) {
      batch.tokens.push_back(static_cast<std::int32_t>(random.below(draw++, static_cast<std::uint64_t>(vocab))));
      batch.positions.push_back(t < cut ? t : t - cut);
      batch.targets.push_back((t + r) % 3 == 0 ? -1 : static_cast<std::int32_t>(random.below(draw++, static_cast<std::uint64_t>(vocab))));
    }
  }
  return batch;
}

}  // namespace models
