// The loop saves, validates, stops and rolls back when it should.
// SPDX-License-Identifier: Apache-2.0
#include "golem/train/loop.hpp"

#include <string>
#include <vector>

#include "catch.hpp"

using namespace golem;

namespace {

// A trainer that only counts; its gradient spikes at one step, some times.
struct Counting {
  TrainingConfig configuration;
  std::int64_t step_ = 0, spike = -1, skipped_until = 0;
  int spikes = 1;
  StepReport step(BatchSource) {
    StepReport report;
    report.step = ++step_;
    report.alarm = report.step == spike && spikes-- > 0;
    report.skipped = report.step <= skipped_until && report.step != 4;
    if (report.alarm || report.skipped) report.note = "a spike";
    return report;
  }
  std::int64_t steps() const { return step_; }
  bool any(bool here) const { return here; }
  const TrainingConfig& config() const { return configuration; }
};

struct Trace {
  Counting trainer;
  std::string events;
  volatile std::sig_atomic_t stop = 0;
  std::int64_t stop_at = -1;

  LoopEnd run(LoopOptions options) {
    options.stop = &stop;
    const auto on_step = [&](const StepReport& report) {
      events += sentence(report.step, " ");
      if (report.step == stop_at) stop = 1;
    };
    const auto validate = [&] { events += "v "; };
    const auto save = [&] { events += "s "; };
    const auto roll_back = [&](const StepReport&) { events += "r ", trainer.step_ = 2; };
    const Batch batch;
    const auto source = [&](int) -> const Batch& { return batch; };
    return run_loop(trainer, source, options, {.on_step = on_step, .validate = validate, .save = save, .roll_back = roll_back});
  }
};

}  // namespace

TEST_CASE("validation and saves come when they are due, and the end is saved once") {
  Trace trace;
  CHECK(trace.run({.last_step = 5, .validate_every = 2, .save_every = 3}) == LoopEnd::finished);
  CHECK(trace.events == "1 2 v 3 s 4 v 5 s ");
  Trace exact;
  exact.run({.last_step = 4, .save_every = 2});
  CHECK(exact.events == "1 2 s 3 4 s ");
}

TEST_CASE("a stop saves and leaves after the step") {
  Trace trace;
  trace.stop_at = 2;
  CHECK(trace.run({.last_step = 5, .validate_every = 1}) == LoopEnd::stopped);
  CHECK(trace.events == "1 v 2 s ");
}

TEST_CASE("an alarm rolls back only where the sentinel was told to") {
  Trace trace;
  trace.trainer.spike = 4;
  trace.trainer.configuration.sentinel.action = SentinelConfig::Action::roll_back;
  trace.run({.last_step = 5});
  CHECK(trace.events == "1 2 3 4 r 3 4 5 s ");
  Trace reports;
  reports.trainer.spike = 4;
  reports.run({.last_step = 5});
  CHECK(reports.events == "1 2 3 4 5 s ");
}

TEST_CASE("a stop is heard while it rolls back, and a run that rolling back does not help ends") {
  Trace trace;
  trace.trainer.spike = 4, trace.trainer.spikes = 100;
  trace.trainer.configuration.sentinel.action = SentinelConfig::Action::roll_back;
  CHECK_THROWS_WITH(trace.run({.last_step = 5, .roll_backs = 2}), Catch::Matchers::Contains("step 4 raised an alarm again, after 2 roll-backs since step 3: a spike"));
  CHECK(trace.events == "1 2 3 4 r 3 4 r 3 4 ");
  Trace twice;  // no more than it may
  twice.trainer.spike = 4, twice.trainer.spikes = 2;
  twice.trainer.configuration.sentinel.action = SentinelConfig::Action::roll_back;
  CHECK(twice.run({.last_step = 5, .roll_backs = 2}) == LoopEnd::finished);
  Trace stopped;
  stopped.trainer.spike = 4, stopped.trainer.spikes = 100, stopped.stop_at = 4;
  stopped.trainer.configuration.sentinel.action = SentinelConfig::Action::roll_back;
  CHECK(stopped.run({.last_step = 5}) == LoopEnd::stopped);
  CHECK(stopped.events == "1 2 3 4 r s ");
}

TEST_CASE("a run that only skips ends, and one that takes a step now and then does not") {
  Trace trace;
  trace.trainer.skipped_until = 100;
  CHECK_THROWS_WITH(trace.run({.last_step = 50, .skips = 6}), Catch::Matchers::Contains("step 11 was skipped, as were the 6 steps before it: a spike. Go on from an earlier checkpoint"));
  Trace enough;
  enough.trainer.skipped_until = 10;
  CHECK(enough.run({.last_step = 12, .skips = 6}) == LoopEnd::finished);
}

TEST_CASE("a stop that comes before the first step is heard there") {
  Trace trace;
  trace.stop = 1;
  CHECK(trace.run({.last_step = 5}) == LoopEnd::stopped);
  CHECK(trace.events.empty());
}

TEST_CASE("a run that is at its end already saves nothing") {
  Trace trace;
  trace.trainer.step_ = 5;
  trace.run({.last_step = 5});
  CHECK(trace.events.empty());
}
