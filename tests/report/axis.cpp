// Axis: ticks are round, in the range, and neither few nor many, whatever the range.
// SPDX-License-Identifier: Apache-2.0
#include "golem/report/axis.hpp"

#include <string>
#include <vector>

#include "catch.hpp"

using golem::AxisRange, golem::Scale;

namespace {

std::vector<std::string> labels(double low, double high, Scale scale = Scale::linear, AxisRange range = AxisRange::to_ticks) {
  std::vector<std::string> out;
  for (const auto& tick : golem::make_axis(low, high, 6, scale, range).ticks) out.push_back(tick.label);
  return out;
}

using Labels = std::vector<std::string>;

}  // namespace

TEST_CASE("ticks are at round numbers") {
  CHECK(labels(0, 10) == Labels{"0", "2", "4", "6", "8", "10"});
  CHECK(labels(2.13, 3.02) == Labels{"2.0", "2.2", "2.4", "2.6", "2.8", "3.0", "3.2"});
  CHECK(labels(-0.3, 0.3) == Labels{"-0.3", "-0.2", "-0.1", "0", "0.1", "0.2", "0.3"});
  CHECK(labels(1, 49300, Scale::linear, AxisRange::exact) == Labels{"10k", "20k", "30k", "40k"});
  CHECK(labels(0, 3e6) == Labels{"0", "500k", "1.0M", "1.5M", "2.0M", "2.5M", "3.0M"});
  CHECK(labels(1.5, 11, Scale::logarithmic) == Labels{"1", "2", "5", "10", "20"});
  CHECK(labels(1e-6, 1, Scale::logarithmic) == Labels{"1e-06", "1e-05", "0.0001", "0.001", "0.01", "0.1", "1"});
}

TEST_CASE("every range gives an axis that holds it, with a sensible number of ticks") {
  for (double low : {-1e12, -3.0, 0.0, 1e-30, 0.1, 7.0, 123456.0})
    for (double width : {0.0, 1e-20, 1e-3, 1.0, 99.0, 1e5, 1e15})
      for (Scale scale : {Scale::linear, Scale::logarithmic}) {
        const auto axis = golem::make_axis(low, low + width, 6, scale, AxisRange::to_ticks);
        const double slack = 1e-6 * std::max({std::fabs(low), std::fabs(low + width), width});
        INFO(low << " + " << width);
        REQUIRE(axis.low < axis.high);
        REQUIRE((axis.low <= low + slack && axis.high >= low + width - slack));
        REQUIRE(axis.ticks.size() >= 2);
        REQUIRE(axis.ticks.size() <= 16);
        REQUIRE(axis.place(axis.low) == Approx(0).margin(1e-9));
        REQUIRE(axis.place(axis.high) == Approx(1));
      }
}
