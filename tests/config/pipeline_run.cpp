// A pipeline on paper: what cannot go on is reported, and times add up.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/pipeline_run.hpp"

#include "catch.hpp"

using namespace golem;

namespace {

using Work = PipelineAction::Work;
using Lists = std::vector<std::vector<PipelineAction>>;

PipelineRun run(const Lists& lists, int micro_batches, int capacity = 0, double travel = 0) {
  return run_pipeline(
      lists, 1, micro_batches, {.capacity = capacity}, [](int, const PipelineAction& action) { return action.work == Work::forward ? 1.0 : 2.0; },
      [&](int, int) { return travel; });
}

}  // namespace

TEST_CASE("two stages, one micro-batch: messages travel there and back") {
  const PipelineRun result = run({{{Work::forward, 0, 0}, {Work::backward, 0, 0}}, {{Work::forward, 0, 0}, {Work::backward, 0, 0}}}, 1, 0, 0.25);
  CHECK(result.stages[1][0].start == 1.25);
  CHECK(result.stages[0][1].start == 4.5);
  CHECK(result.seconds == 6.5);
  CHECK(result.bubble() == Approx(1 - 6 / 13.0));
}

TEST_CASE("a sender waits where its channel is full") {
  const Lists lists = pipeline_schedules(PipelineSchedule::gpipe, 2, 1, 4);
  const auto slow_second = [](int stage, const PipelineAction&) { return stage == 0 ? 1.0 : 5.0; };
  const auto none = [](int, int) { return 0.0; };
  CHECK(run_pipeline(lists, 1, 4, {.capacity = 0}, slow_second, none).stages[0][3].start == 3);
  CHECK(run_pipeline(lists, 1, 4, {.capacity = 1}, slow_second, none).stages[0][3].start ==
        6);  // the second went when the first was taken, at 1, the third at 6
}

TEST_CASE("a schedule that cannot go on is reported") {
  // Both wait for the other's first message.
  CHECK_THROWS_WITH(run({{{Work::forward, 0, 0}, {Work::backward, 0, 0}}, {{Work::backward, 0, 0}, {Work::forward, 0, 0}}}, 1),
                    Catch::Matchers::Contains("before what it needs"));
  CHECK_THROWS_WITH(run({{{Work::forward, 0, 1}, {Work::forward, 0, 0}}, {{Work::forward, 0, 0}, {Work::forward, 0, 1}}}, 2),
                    Catch::Matchers::Contains("let both send and receive in one order"));
  CHECK_THROWS_WITH(run({{{Work::forward, 0, 0}, {Work::backward, 0, 0}}, {{Work::forward, 0, 0}}}, 1),
                    Catch::Matchers::Contains("stage 0 waits for micro-batch 0 backward"));
  CHECK_THROWS_WITH(run({{{Work::forward, 0, 0}, {Work::forward, 0, 1}, {Work::forward, 0, 2}}, {{Work::forward, 0, 0}}}, 3, 1),
                    Catch::Matchers::Contains("stage 0 cannot send"));
  CHECK_THROWS_WITH(run({{{Work::backward, 0, 0}}}, 1), Catch::Matchers::Contains("before what it needs"));
  CHECK_THROWS_WITH(run({{{Work::forward, 0, 0}, {Work::forward, 0, 0}}}, 1), Catch::Matchers::Contains("or twice"));
}
