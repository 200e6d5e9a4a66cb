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

TEST_CASE("the workspace of inference grows with sequences, the original's steps, rounded activations and the elements of quantised weights") {
  constexpr std::int64_t one = 1280 * (128 + 2) * 4;  // blocks of a GPU's attention to the cache, each with its values in float
  CHECK(plan_inference<glm_130b, fp16>(1).workspace == workspace_bytes);
  CHECK(plan_inference<glm_130b, fp16>(100).workspace == 400 * one);  // up to four new tokens of each
  CHECK(plan_inference<glm_130b, fp16_exact>(100, 2048, 4).workspace == 400 * (one + std::int64_t{24} * 2048 * 4));
  CHECK(plan_inference<glm_130b, quantized<Quant{.bits = 8}, fp16>>(200).workspace == 800 * one);
  CHECK(plan_inference<glm_130b, quantized<Quant{.bits = 4}, fp16>>(1).workspace == std::int64_t{4096} * 32768 * 2 + workspace_bytes);  // elements of a third of the rows
  CHECK(plan_inference<glm_130b, quantized<Quant{.bits = 4}, fp32>>(1).workspace == std::int64_t{2048} * 32768 * 4 + workspace_bytes);  // of a sixth
  CHECK(plan_inference<glm_130b, quantized<Quant{.bits = 4}, fp16>>(1, 127).workspace == workspace_bytes);                              // few tokens need none
  CHECK(plan_inference<glm_130b, quantized<Quant{.bits = 4}, fp16>>(1, 128, 8).workspace == std::int64_t{8192} * 12288 * 2 + workspace_bytes);  // all rows of a rank
  constexpr Quant rounded{.bits = 8, .group = 0, .activations = Activations::int8};
  CHECK(plan_inference<glm_130b, quantized<rounded, fp16>>(2, 2048).workspace == std::int64_t{2} * 2048 * (32768 + 256 * 4));
}

TEST_CASE("an engine of so many sequences that their bytes overflow is refused, and the largest counted is far from that") {
  CHECK_THROWS_WITH((plan_inference<glm_130b, fp16>(2000000000)), Catch::Matchers::Contains("2000000000 sequences of 2048 tokens"));
  CHECK(plan_inference<glm_130b, fp16>(1100000000, 8, 2).head > std::int64_t{1} << 40);
  const std::int64_t total = plan_inference<glm_130b, fp16_exact>(1 << 23).total();
  CHECK((total > std::int64_t{1} << 54 && total < std::int64_t{1} << 57));
}

TEST_CASE("room for the elements of one matrix is planned where products are the original's") {
  constexpr Quant q{.bits = 4};
  CHECK(weight_bytes<quantized<q, fp16_exact>>(glm_130b::config, 4) - weight_bytes<quantized<q, fp16>>(glm_130b::config, 4) == std::int64_t{2} * 65536 * 12288 / 4);
}

TEST_CASE("shards cover the full tensor once") {
  const ModelConfig c = glm_tiny::config.with([](auto& x) { x.heads = GENERATE(4, 8), x.kv_heads = 4; });
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
