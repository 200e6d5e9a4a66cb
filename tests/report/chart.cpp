// Charts: well-formed SVG for any data, NaN included; large series stay small; loss charts show each objective.
// SPDX-License-Identifier: Apache-2.0
#include "golem/report/chart.hpp"

#include <limits>

#include "catch.hpp"
#include "io/files.hpp"

using golem::Chart, golem::LineStyle, golem::Series;
using test::count_of, test::has;

namespace {

constexpr double missing = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();

}  // namespace

TEST_CASE("lines break at values that are not finite") {
  const Chart chart{.title = "a < b & \"c\"", .series = {{.name = "x", .x = {1, 2, 3, 4, missing, 6, 7}, .y = {1, 2, missing, 4, 5, infinity, 7}}}};
  const std::string svg = golem::to_svg(chart);
  CHECK(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  CHECK(svg.ends_with("</svg>\n"));
  CHECK(has(svg, "a &lt; b &amp; &quot;c&quot;"));
  CHECK(!has(svg, "nan"));
  CHECK(!has(svg, "inf"));
  golem::chart::Frame frame{golem::make_axis(0, 10, 5, golem::Scale::linear, golem::AxisRange::exact),
                            golem::make_axis(0, 10, 5, golem::Scale::linear, golem::AxisRange::exact), 100, 100};
  CHECK(golem::chart::path_of(chart.series[0], frame) == "M74.0 166.0L84.0 156.0M104.0 136.0M134.0 106.0");
}

TEST_CASE("no data, one point, and data without a place are drawn too") {
  CHECK(has(golem::to_svg({}), "no data yet"));
  CHECK(has(golem::to_svg({.series = {{.x = {1}, .y = {missing}}}}), "no data yet"));
  CHECK(has(golem::to_svg({.y_scale = golem::Scale::logarithmic, .series = {{.x = {1, 2}, .y = {0, -3}}}}), "no data yet"));
  CHECK(!has(golem::to_svg({.series = {{.x = {1}, .y = {2}, .style = LineStyle::marked}}}), "no data yet"));
  CHECK(!has(golem::to_svg({.series = {{.x = {1, 2}, .y = {1e300, -1e300}}}}), "inf"));
}

TEST_CASE("a long series takes no more than two points a pixel, and keeps its extremes") {
  Series series{.name = "long"};
  for (int i = 0; i < 200000; ++i) series.x.push_back(i), series.y.push_back(i == 123456 ? 9.0 : (i * 7919 % 1000) * 1e-3);
  const std::string svg = golem::to_svg({.series = {series}});
  CHECK(svg.size() < 60000);
  CHECK(has(svg, " 109.2L"));  // 9 on an axis from 0 to 10 that is 332 pixels high and begins 76 below the top
}

TEST_CASE("a chart's file is written whole") {
  const test::Folder folder;
  golem::write_chart(folder / "loss.svg", {.title = "x"});
  CHECK(test::read(folder / "loss.svg") == golem::to_svg({.title = "x"}));
  CHECK(!std::filesystem::exists(folder / "loss.svg.partial"));
  CHECK(has(test::error_of([&] { golem::write_chart(folder / "none/loss.svg", {}); }), "cannot write the chart"));
  CHECK(count_of(golem::to_svg({}), "<text") > 5);
}
