// The plan against the paper's figures, and the parameter list against the spec's.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/plan.hpp"

#include <cmath>
#include <map>
#include <string>

#include "catch.hpp"
#include "golem/config/presets.hpp"

using namespace golem;

TEST_CASE("GLM-130B has the spec's tensors and parameters") {
  constexpr ModelConfig c = glm_130b::config;
  int tensors = 0;
  std::int64_t quantised = 0;
  std::map<std::string, int> seen;
  for_each_parameter(c, whole(c), [&](const Parameter& parameter, int layer) {
    ++tensors;
    if (parameter.quantized) quantised += parameter.size();
    CHECK(++seen[full_name(parameter, layer)] == 1);
  });
  CHECK(tensors == 843);                                                           // spec 1.10
  CHECK(quantised == 126'835'752'960);                                             // spec 1.8
  CHECK(c.alpha() == std::sqrt(140.0));                                            // spec 1.1
  CHECK(c.beta() == Approx(0.08451542547285165).epsilon(1e-15));
  CHECK(parameter_count(c, {0, 1, false, false}, 1) == 1'812'115'456);             // a block, spec 1.8
  CHECK(2 * parameter_count(c, whole(c), 8) == 32'183'523'328);                    // bytes of a fp16 shard
}

TEST_CASE("weights of GLM-130B take the bytes of the spec") {
  CHECK(weight_bytes<fp16>(glm_130b::config, 8) == 32'183'523'328);                           // 29.97 GiB
  CHECK(static_cast<double>(weight_bytes<quantized<Quant{.bits = 8}, fp16>>(glm_130b::config, 8)) / (1 << 30) == Approx(15.21).margin(0.01));  // spec 5.4
  CHECK(static_cast<double>(weight_bytes<quantized<Quant{.bits = 4}, fp16>>(glm_130b::config, 8)) / (1 << 30) == Approx(7.83).margin(0.01));
  CHECK(static_cast<double>(weight_bytes<quantized<Quant{.bits = 4}, fp16>>(glm_130b::config, 4)) / (1 << 30) == Approx(15.65).margin(0.01));
}

TEST_CASE("shards cover the full tensor once") {
  constexpr ModelConfig c = glm_tiny::config;
  for (const int tp : {1, 2, 4})
    for_each_parameter(c, whole(c), [&](const Parameter& parameter, int) {
      if (parameter.shard == Shard::replicated) return;
      std::vector<int> hits(static_cast<std::size_t>(parameter.size()));
      const std::int64_t columns = parameter.columns ? parameter.columns : 1;
      for (int rank = 0; rank < tp; ++rank)
        for (std::int64_t r = 0; r < parameter.local_rows(tp); ++r)
          for (std::int64_t col = 0; col < (parameter.columns ? parameter.local_columns(tp) : 1); ++col)
            ++hits[static_cast<std::size_t>(parameter.full_row(r, tp, rank) * columns + parameter.full_column(col, tp, rank))];
      INFO(parameter.name << " tp " << tp);
      for (const int hit : hits) REQUIRE(hit == 1);
    });
}
