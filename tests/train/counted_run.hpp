// The run whose traffic is counted, and compared with what a plan says of it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "train/layout_runs.hpp"

namespace layouts {

inline constexpr std::int64_t rows = 8, micro_batch = 2, length = 16, element = sizeof(double);
inline const TrainingConfig counted_run{.learning_rate = {.peak = 1e-2}, .batch = {.full = rows}, .micro_batch = static_cast<int>(micro_batch)};

}  // namespace layouts
