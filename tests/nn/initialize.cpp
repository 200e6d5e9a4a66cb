// Initial weights: each element is a function of its place in the full tensor, whichever rank and thread draws it.
// SPDX-License-Identifier: Apache-2.0
#include "golem/nn/initialize.hpp"

#include <cmath>
#include <cstdint>
#include <span>
#include <string_view>
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

TEST_CASE("the value that heads share is drawn as narrow as each head's own, queries and the key are not") {
  constexpr ModelConfig shared = small.with([](auto& c) { c.kv_heads = 2; });
  const Parameter qkv = block_parameters(shared)[2];
  REQUIRE(qkv.rows == 2 * 4 * shared.head_dim());
  const double wide = std::sqrt(1.0 / shared.hidden);
  for (std::int64_t row = 0; row < qkv.rows; ++row) CHECK(initial_std(shared, qkv, row) == Approx(row / shared.head_dim() % 4 == 3 ? wide * shared.beta() : wide));
  require_shards_of_the_whole(shared, qkv);
}

TEST_CASE("GLM-130B's standard deviations are those of spec 1.9, and vectors begin at one or zero") {
  constexpr const ModelConfig& c = glm_130b::config;
  CHECK(initial_std(c, embedding_parameter(c), 0) == 0.0052);
  for (const Parameter& parameter : block_parameters(c)) {
    INFO(parameter.name);
    const auto at = [&](std::int64_t row) { return initial_std(c, parameter, row); };
    const std::string_view name = parameter.name;
    if (name == "attention.query_key_value.weight") {
      for (const std::int64_t head : {0, 95}) {
        CHECK(at((3 * head + 0) * 128) == Approx(0.0090211).epsilon(1e-4));
        CHECK(at((3 * head + 1) * 128 + 127) == Approx(0.0090211).epsilon(1e-4));
        CHECK(at((3 * head + 2) * 128) == Approx(7.6242e-4).epsilon(1e-4));
      }
    } else if (name == "attention.dense.weight") {
      CHECK(at(0) == Approx(7.6242e-4).epsilon(1e-4));
    } else if (name == "mlp.dense_h_to_4h.weight" || name == "mlp.dense_4h_to_h.weight") {
      CHECK(at(0) == Approx(5.6309e-4).epsilon(1e-4));
    } else {
      CHECK(at(0) == 0);
      CHECK((parameter.init == Init::zeros || parameter.init == Init::ones));
    }
  }
}

TEST_CASE("what is drawn has its row's standard deviation") {
  for (const Parameter& parameter : block_parameters(small)) {
    const std::vector<double> values = drawn(small, parameter, 1, 0);
    INFO(parameter.name);
    if (parameter.init == Init::zeros || parameter.init == Init::ones) {
      for (const double value : values) CHECK(value == (parameter.init == Init::ones ? 1 : 0));
      continue;
    }
    double squares = 0;  // in units of the deviation
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double of_row = values[i] / initial_std(small, parameter, static_cast<std::int64_t>(i) / parameter.columns);
      squares += of_row * of_row;
    }
    CHECK(std::sqrt(squares / static_cast<double>(values.size())) == Approx(1).epsilon(0.1));
  }
}
