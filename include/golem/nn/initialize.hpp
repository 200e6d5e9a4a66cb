// Initial weights as a function of (seed, tensor, element), so that any rank of any layout makes its shard of the same model.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "golem/config/parameters.hpp"
#include "golem/core/random.hpp"

namespace golem {

/// Standard deviation of row `row` of a tensor (spec 1.9); Xavier: gain * sqrt(2 / (fan_in + fan_out)), unsharded fans.
inline double initial_std(const ModelConfig& config, const Parameter& parameter, std::int64_t row) {
  const auto xavier = [](double gain, std::int64_t fan_out, std::int64_t fan_in) { return gain * std::sqrt(2.0 / static_cast<double>(fan_in + fan_out)); };
  switch (parameter.init) {
    case Init::embedding: return config.embedding_std;
    case Init::qkv: {
      const std::int64_t third = row / config.head_dim() % 3;  // rows of a head: q, k, v
      return xavier(third == 2 ? config.beta() : 1.0, config.hidden, config.hidden);
    }
    case Init::branch: {
      const std::int64_t rows = parameter.shard == Shard::glu_rows ? parameter.rows / 2 : parameter.rows;
      return xavier(config.beta(), rows, parameter.columns);
    }
    case Init::zeros:
    case Init::ones: return 0;
  }
  return 0;
}

/// Element (row, column) of the full tensor `name` (its name in files) under `seed`.
inline double initial_value(const ModelConfig& config, const Parameter& parameter, const std::string& name, std::uint64_t seed, std::int64_t row, std::int64_t column) {
  if (parameter.init == Init::zeros) return 0;
  if (parameter.init == Init::ones) return 1;
  const Random random{seed, stream_of(name)};
  return initial_std(config, parameter, row) * random.normal(static_cast<std::uint64_t>(row * parameter.columns + column));
}

}  // namespace golem
