// Initial weights: each element is a function of its place in the full tensor, whichever rank and thread draws it.
// SPDX-License-Identifier: Apache-2.0
#include "golem/nn/initialize.hpp"

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "catch.hpp"
#include "golem/config/presets.hpp"

using namespace golem;

namespace {

constexpr ModelConfig small = checked({.layers = 2, .hidden = 32, .heads = 4, .ffn = 24, .vocab = 64, .context = 16});

std::vector<double> drawn(const ModelConfig& config, const Parameter& parameter, int tp, int rank) {
  std::vector<double> values(static_cast<std::size_t>(parameter.local_rows(tp) * (parameter.columns ? parameter.local_columns(tp) : 1)), NAN);
  fill_initial(std::span(values), config, parameter, parameter.name, 7, tp, rank, 3);
  return values;
}

void require_shards_of_the_whole(const ModelConfig& config, const Parameter& parameter) {
  const std::vector<double> whole = drawn(config, parameter, 1, 0);
  const std::int64_t columns = parameter.columns ? parameter.columns : 1;
  for (int rank = 0; rank < 2; ++rank) {
    const std::vector<double> shard = drawn(config, parameter, 2, rank);
    const std::int64_t own_columns = parameter.columns ? parameter.local_columns(2) : 1;
    INFO(parameter.name << ", rank " << rank);
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(shard.size()); ++i) {
      const std::int64_t row = parameter.full_row(i / own_columns, 2, rank), column = parameter.full_column(i % own_columns, 2, rank);
      REQUIRE(shard[static_cast<std::size_t>(i)] == whole[static_cast<std::size_t>(row * columns + column)]);
    }
  }
}

}  // namespace

TEST_CASE("a shard holds what the whole tensor holds there") {
  require_shards_of_the_whole(small, embedding_parameter(small));
  for (const Parameter& parameter : block_parameters(small)) require_shards_of_the_whole(small, parameter);
}

TEST_CASE("a tensor that threads share holds the normals of its elements' numbers") {
  constexpr ModelConfig large = checked({.layers = 2, .hidden = 256, .heads = 4, .ffn = 24, .vocab = 4101, .context = 16});
  const Parameter parameter = embedding_parameter(large);
  const std::vector<double> values = drawn(large, parameter, 1, 0);
  const Random random{7, stream_of(parameter.name)};
  REQUIRE(values.size() == 4101 * 256);
  for (std::size_t i = 0; i < values.size(); ++i) REQUIRE(values[i] == large.embedding_std * random.normal(i));
}

TEST_CASE("standard deviations are those of the initialisation, and vectors begin at one or zero") {
  for (const Parameter& parameter : block_parameters(small)) {
    double squares = 0;
    const std::vector<double> values = drawn(small, parameter, 1, 0);
    for (const double value : values) squares += value * value;
    const double got = std::sqrt(squares / static_cast<double>(values.size()));
    INFO(parameter.name);
    if (parameter.init == Init::zeros) CHECK(got == 0);
    else if (parameter.init == Init::ones) CHECK(got == 1);
    else if (parameter.init == Init::branch) CHECK(got == Approx(initial_std(small, parameter, 0)).epsilon(0.1));
  }
}
