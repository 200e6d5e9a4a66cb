// Timelines: every span of a short step is drawn, a long one begins and ends only, and nothing leaves the picture.
// SPDX-License-Identifier: Apache-2.0
#include "golem/report/timeline.hpp"

#include "catch.hpp"
#include "io/files.hpp"

using namespace golem;
using test::count_of, test::has;

namespace {

PipelineRun pipeline(PipelineSchedule kind, int stages, int chunks, int micro_batches) {
  return run_pipeline(
      pipeline_schedules(kind, stages, chunks, micro_batches), chunks, micro_batches, {},
      [](int, const PipelineAction& action) { return action.work == PipelineAction::Work::backward ? 2.0 : 1.0; }, [](int, int) { return 0.0; });
}

}  // namespace

TEST_CASE("each action of a short pipeline is a rectangle of its kind, and labelled by its micro-batch") {
  Timeline t = timeline_of(pipeline(PipelineSchedule::zero_bubble, 3, 1, 4));
  t.title = "a < b";
  const std::string svg = to_svg(t);
  CHECK((svg.starts_with("<svg") && svg.ends_with("</svg>\n")));
  CHECK(has(svg, "a &lt; b"));
  CHECK(count_of(svg, "fill=\"#8fb8f6\"") == 12 + 1);  // and the legend
  CHECK(count_of(svg, "fill=\"#86cdaa\"") == 12 + 1);
  CHECK(count_of(svg, "fill=\"#f3c179\"") == 12 + 1);
  CHECK(count_of(svg, ">4</text>") >= 9);
  CHECK(has(svg, "backward, weights"));
  CHECK(!has(svg, "later chunks"));
  CHECK(has(svg, "stage 2"));
}

TEST_CASE("later chunks are paler") {
  const std::string svg = to_svg(timeline_of(pipeline(PipelineSchedule::interleaved, 2, 3, 4)));
  CHECK(count_of(svg, "fill-opacity=\"0.78\"") == 2 * 2 * 4);
  CHECK(count_of(svg, "fill-opacity=\"0.56\"") == 2 * 2 * 4);
  CHECK(has(svg, "paler: later chunks"));
}

TEST_CASE("a long step is drawn at its beginning and its end") {
  const Timeline t = timeline_of(pipeline(PipelineSchedule::one_f_one_b, 4, 1, 500));
  const auto windows = timeline::windows_of(t);
  REQUIRE(windows.size() == 2);
  CHECK(windows[0].from == 0);
  CHECK(windows[1].to == Approx(3 * 503));
  CHECK(windows[0].to < windows[1].from);
  CHECK(windows[0].place(1) - windows[0].place(0) == Approx(t.narrowest));
  const std::string svg = to_svg(t);
  CHECK(svg.size() < 60'000);
  CHECK(has(svg, ">500</text>"));
  CHECK(!has(svg, ">250</text>"));
}

TEST_CASE("spans stay within their window") {
  const timeline::Window window{2, 4, 100, 200};
  CHECK(timeline::drawn({0, 1, SpanKind::forward, 0, "1"}, window, 0).empty());
  CHECK(has(timeline::drawn({1, 3, SpanKind::forward, 0, "1"}, window, 0), "x=\"100.0\" y=\"0.0\" width=\"100.0\""));
  CHECK(has(timeline::drawn({3, 9, SpanKind::backward, 0, "1"}, window, 0), "x=\"200.0\" y=\"0.0\" width=\"100.0\""));
}

TEST_CASE("a step on paper shows what follows its pipeline, and an empty timeline is drawn too") {
  const StepOnPaper step = simulate({.model = glm_tiny::config,
                                     .types = types_of<fp32>(),
                                     .layout = {.pp = 2, .dp = 2},
                                     .training = {.batch = {.full = 16}, .micro_batch = 2},
                                     .hardware = h100});
  const std::string svg = to_svg(timeline_of(step));
  CHECK(has(svg, "gradients reduced, weights moved"));
  CHECK(count_of(svg, "fill=\"#b9a5e0\"") == 2 + 1);
  CHECK(has(to_svg(Timeline{.title = "nothing"}), "nothing"));
  const test::Folder folder;
  write_timeline(folder / "step.svg", timeline_of(step));
  CHECK(test::read(folder / "step.svg") == svg);
  CHECK(has(test::error_of([&] { write_timeline(folder / "none/step.svg", {}); }), "cannot write the timeline"));
}
