// Initial weights as a function of (seed, tensor, element), so that any rank of any layout makes its shard of the same model.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "golem/config/parameters.hpp"
#include "golem/core/math.hpp"
#include "golem/core/random.hpp"

namespace golem {

/// Standard deviation of row `row` of a tensor (spec 1.9); Xavier: gain * sqrt(2 / (fan_in + fan_out)), unsharded fans.
inline double initial_std(const ModelConfig& config, const Parameter& parameter, std::int64_t row) {
  const auto xavier = [](double gain, std::int64_t fan_out, std::int64_t fan_in) { return gain * std::sqrt(2.0 / static_cast<double>(fan_in + fan_out)); };
  switch (parameter.init) {
    case Init::embedding: return config.embedding_std;
    case Init::qkv: {
      const std::int64_t parts = config.heads / config.key_heads() + 2;  // of D rows each: q of every head that shares them, k, v
      return xavier(row / config.head_dim() % parts == parts - 1 ? config.beta() : 1.0, config.hidden, config.hidden);
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

/// Fills `values` with what tensor-parallel rank `rank` of `tp` has of the full tensor `name` (its name in files) under `seed`: a
/// normal of each element's own number, so that it does not matter who draws it. Large tensors are cut among as many as `threads`.
template <class A>
void fill_initial(std::span<A> values, const ModelConfig& config, const Parameter& parameter, const std::string& name, std::uint64_t seed, int tp, int rank, int threads) {
  if (parameter.init == Init::zeros || parameter.init == Init::ones) {
    std::fill(values.begin(), values.end(), parameter.init == Init::ones ? A{1} : A{0});
    return;
  }
  const Random random{seed, stream_of(name)};
  const std::int64_t columns = parameter.columns ? parameter.local_columns(tp) : 1, rows = static_cast<std::int64_t>(values.size()) / columns, first_column = parameter.full_column(0, tp, rank);
  const auto fill_rows = [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      const std::int64_t row = parameter.full_row(r, tp, rank), number = row * (parameter.columns ? parameter.columns : 1) + first_column;
      const double std = initial_std(config, parameter, row);
      for (std::int64_t c = 0; c < columns; ++c) values[static_cast<std::size_t>(r * columns + c)] = static_cast<A>(std * random.normal(static_cast<std::uint64_t>(number + c)));
    }
  };
  constexpr std::int64_t worth_a_thread = 1 << 18;  // elements, some 10 ms
  const std::int64_t pieces = smaller(std::int64_t{threads}, smaller(rows, rows * columns / worth_a_thread));
  std::vector<std::jthread> others;
  for (std::int64_t piece = 1; piece < pieces; ++piece) others.emplace_back(fill_rows, piece * rows / pieces, (piece + 1) * rows / pieces);
  fill_rows(0, pieces > 1 ? rows / pieces : rows);
}

}  // namespace golem
