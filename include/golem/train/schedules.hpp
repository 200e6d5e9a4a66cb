// Learning rate, batch size and embedding shrink as functions of how far the run is (spec 4.2, 4.3).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "golem/config/training.hpp"
#include "golem/core/math.hpp"

namespace golem {

/// The rate after `samples` rows of steps that were applied: 0 in the very first step (spec 4.2, "LR counter").
inline double learning_rate(const LearningRate& c, std::int64_t samples) {
  const auto s = static_cast<double>(samples), warmup = static_cast<double>(c.warmup_samples), end = static_cast<double>(c.decay_samples);
  if (samples < c.warmup_samples) return c.peak * s / warmup;
  if (c.decay_samples == 0) return c.peak;
  if (samples >= c.decay_samples) return c.min;
  return c.min + 0.5 * (c.peak - c.min) * (1 + std::cos(3.14159265358979323846 * (s - warmup) / (end - warmup)));
}

/// Rows of the step that begins after `samples` consumed rows.
constexpr std::int64_t batch_rows(const BatchSize& c, std::int64_t samples) {
  if (c.start == 0 || c.start >= c.full || samples > c.ramp_samples) return c.full;
  const std::int64_t increments = (c.full - c.start) / c.increment;
  if (increments == 0 || c.ramp_samples == 0) return c.full;
  const std::int64_t done = static_cast<std::int64_t>(static_cast<double>(samples) / (static_cast<double>(c.ramp_samples) / static_cast<double>(increments)));
  return smaller(c.full, c.start + done * c.increment);
}

/// Rows of the first `steps` steps together.
constexpr std::int64_t rows_of_steps(const BatchSize& c, std::int64_t steps) {
  std::int64_t rows = 0;
  for (; steps > 0 && batch_rows(c, rows) != c.full; --steps) rows += batch_rows(c, rows);
  return rows + steps * c.full;
}

/// Factor of the embedding's gradient in step n (1-based).
constexpr double embedding_shrink(const EmbeddingShrink& c, std::int64_t n) {
  if (n <= c.ramp_from) return c.alpha;
  if (n >= c.ramp_from + c.ramp_steps) return 1;
  return c.alpha + (1 - c.alpha) * static_cast<double>(n - 1 - c.ramp_from) / static_cast<double>(c.ramp_steps);
}

}  // namespace golem
