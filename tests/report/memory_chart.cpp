// Memory charts: a bar a stage, as long as its bytes, and a limit that it may pass.
// SPDX-License-Identifier: Apache-2.0
#include "golem/report/memory_chart.hpp"

#include "catch.hpp"
#include "io/files.hpp"

using namespace golem;
using test::has;

namespace {

constexpr std::int64_t gib = std::int64_t{1} << 30;

MemoryChart two_bars(std::int64_t limit) {
  return {.title = "a & b",
          .bars = {{"stage 0", {{"weights", 3 * gib}, {"moments", 1 * gib}}}, {"stage 1", {{"weights", 2 * gib}, {"moments", 0}}}},
          .limit = limit};
}

}  // namespace

TEST_CASE("bars are as long as their bytes, and empty items are not drawn") {
  const std::string svg = to_svg(two_bars(0));
  CHECK((svg.starts_with("<svg") && svg.ends_with("</svg>\n") && has(svg, "a &amp; b")));
  const double scale = (920.0 - 84 - 84) / (4 * 1.02);
  std::string width;
  chart::append_number(width, 3 * scale);
  CHECK(has(svg, "width=\"" + width + "\" height=\"24.0\" fill=\"#5b8def\""));
  std::string behind;
  chart::append_number(behind, 84 + 3 * scale);
  CHECK(has(svg, "<rect x=\"" + behind + "\""));  // the second item
  CHECK(has(svg, ">4.0 GiB</text>"));
  CHECK(has(svg, ">2.0 GiB</text>"));
  CHECK(!has(svg, "width=\"0.0\""));
  CHECK(!has(svg, "usable"));
}

TEST_CASE("what passes the limit stands out") {
  CHECK(!has(to_svg(two_bars(5 * gib)), "font-weight=\"600\">4.0 GiB"));
  const std::string over = to_svg(two_bars(7 * gib / 2));
  CHECK(has(over, "font-weight=\"600\">4.0 GiB"));
  CHECK(!has(over, "font-weight=\"600\">2.0 GiB"));
  CHECK(has(over, "usable: 3.5 GiB"));
}

TEST_CASE("the items of a plan are all of it, and an empty chart is drawn too") {
  const TrainingMemory memory = plan_training<glm_tiny, bf16_mixed>({.batch = {.full = 8}});
  CHECK(memory_chart::total({"", items_of(memory)}) == memory.total());
  const InferenceMemory engine = plan_inference<glm_tiny, bf16>(2);
  CHECK(memory_chart::total({"", items_of(engine)}) == engine.total());
  CHECK(has(to_svg(MemoryChart{.title = "nothing"}), "nothing"));
  const test::Folder folder;
  write_memory_chart(folder / "memory.svg", two_bars(gib));
  CHECK(test::read(folder / "memory.svg") == to_svg(two_bars(gib)));
  CHECK(has(test::error_of([&] { write_memory_chart(folder / "none/memory.svg", {}); }), "cannot write the memory chart"));
}
