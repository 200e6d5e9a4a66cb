// Rotary tables against the spec's reference values (spec 1.4).
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/rope.hpp"

#include <cmath>
#include <vector>

#include "catch.hpp"
#include "golem/config/presets.hpp"

using namespace golem;

TEST_CASE("GLM-130B's fp16 tables have the spec's values, to the bit") {
  const ModelConfig c = glm_130b::config;
  std::vector<float> cos(2048 * 64), sin(2048 * 64);
  rope_tables(c, View<float, 2>{cos.data(), 2048, 64}, View<float, 2>{sin.data(), 2048, 64});
  struct Reference {
    int position, i;
    double cos, sin;
  };
  for (const Reference& r : {Reference{1, 0, 0.54052734, 0.84130859}, {1, 1, 0.64794922, 0.76171875}, {100, 1, 0.16784668, -0.98583984}, {100, 16, -0.83886719, -0.54394531},
                             {1000, 1, -0.00877380, -1.0}, {1000, 63, 0.99316406, 0.11523438}, {2047, 0, 0.24975586, -0.96826172}, {2047, 1, 0.98974609, 0.14123535},
                             {2047, 16, -0.91259766, -0.40917969}, {2047, 63, 0.97216797, 0.23413086}}) {
    INFO("position " << r.position << ", i " << r.i);
    CHECK(cos[static_cast<std::size_t>(r.position * 64 + r.i)] == Approx(r.cos).margin(5e-9));
    CHECK(sin[static_cast<std::size_t>(r.position * 64 + r.i)] == Approx(r.sin).margin(5e-9));
  }
}

TEST_CASE("exact tables are exact, and tables of another shape are refused") {
  const ModelConfig c = glm_tiny::config;
  std::vector<double> cos(64 * 8), sin(64 * 8);
  rope_tables(c, View<double, 2>{cos.data(), 64, 8}, View<double, 2>{sin.data(), 64, 8});
  CHECK(cos[63 * 8 + 3] == Approx(std::cos(63 * std::pow(10000.0, -6.0 / 16))).epsilon(1e-15));
  CHECK_THROWS_WITH(rope_tables(c, View<double, 2>{cos.data(), 32, 16}, View<double, 2>{sin.data(), 32, 16}), Catch::Matchers::Contains("(32, 16)"));
}
