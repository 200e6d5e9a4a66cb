// Traces: JSON of complete events and names, in microseconds.
// SPDX-License-Identifier: Apache-2.0
#include "golem/report/trace.hpp"

#include "catch.hpp"
#include "io/files.hpp"

using namespace golem;

TEST_CASE("each action of a pipeline is an event on its stage's track") {
  const PipelineRun run = run_pipeline(
      pipeline_schedules(PipelineSchedule::interleaved, 2, 2, 2), 2, 2, {}, [](int, const PipelineAction&) { return 0.5; },
      [](int, int) { return 0.25; });
  Trace trace;
  trace.name_process(7, "data rank 7");
  trace.add(7, run, 10);
  trace.add(7, 0, "all-reduce", "communication", 1, 1.5, {{"bytes", 12}});
  const auto json = nlohmann::json::parse(trace.json());
  const auto& events = json.at("traceEvents");
  int complete = 0, names = 0;
  for (const auto& event : events) {
    CHECK(event.at("pid") == 7);
    if (event.at("ph") == "M") ++names;
    if (event.at("ph") == "X") ++complete;
  }
  CHECK(names == 1 + 2);
  CHECK(complete == 2 * 2 * 2 * 2 + 1);
  CHECK(events[0].at("args").at("name") == "data rank 7");
  CHECK(events[2].at("name") == "forward 1");
  CHECK(events[2].at("ts") == 10e6);
  CHECK(events[2].at("dur") == 0.5e6);
  CHECK(events[2].at("args").at("chunk") == 0);
  CHECK(events.back().at("args").at("bytes") == 12);
}

TEST_CASE("a trace's file is written whole") {
  const test::Folder folder;
  Trace trace;
  trace.add(0, 1, "step", "step", 0, 1);
  trace.write(folder / "trace.json");
  CHECK(test::read(folder / "trace.json") == trace.json());
  CHECK(test::has(test::error_of([&] { trace.write(folder / "none/trace.json"); }), "cannot write the trace"));
}
