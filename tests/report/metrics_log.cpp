// metrics.jsonl: a run that stops and resumes writes what an uninterrupted one writes; what is read back is what was reported.
// SPDX-License-Identifier: Apache-2.0
#include "golem/report/metrics_log.hpp"

#include <cmath>
#include <filesystem>
#include <limits>

#include "catch.hpp"
#include "io/files.hpp"

using test::error_of, test::has;

namespace {

golem::StepReport logged_report(std::int64_t step) {
  golem::StepReport report;
  report.step = step, report.samples = step * 8, report.tokens = 512, report.loss = 10.0 / static_cast<double>(step), report.gradient_norm = 1.5;
  report.learning_rate = 0.1 * static_cast<double>(step), report.seconds = 0.25;
  report.tasks[0] = {1.0 / 3, 3};
  report.tasks[1] = {2.5, step % 2};
  return report;
}

void write_steps(golem::MetricsLog& log, std::int64_t first, std::int64_t last) {
  for (std::int64_t step = first; step <= last; ++step) {
    log.write(logged_report(step));
    if (step % 3 == 0) log.write_validation(step, 4.0 / static_cast<double>(step));
  }
}

}  // namespace

TEST_CASE("a resumed run leaves the metrics of an uninterrupted one") {
  const test::Folder folder;
  const std::string whole = folder / "whole.jsonl", path = folder / "metrics.jsonl";
  {
    golem::MetricsLog log(whole);
    write_steps(log, 1, 12);
  }
  for (std::int64_t resumed = 0; resumed <= 8; ++resumed) {
    {
      golem::MetricsLog log(path);
      write_steps(log, 1, 8);
    }
    if (resumed % 2) test::write(path, test::read(path) + "{\"step\":9,\"lo");  // a crash tore the last line
    golem::MetricsLog log(path, {.resumed_step = resumed});
    write_steps(log, resumed + 1, 12);
    REQUIRE(test::read(path) == test::read(whole));
  }
}

TEST_CASE("lines from before a roll-back stay, and those of the steps that go on") {
  const test::Folder folder;
  const std::string path = folder / "metrics.jsonl";
  std::string kept;
  {
    golem::MetricsLog log(path);
    write_steps(log, 1, 5);
    log.write_note(5, "rolled back to step 2");
    write_steps(log, 3, 4);
    kept = test::read(path);
    write_steps(log, 5, 6);
  }
  const golem::MetricsLog log(path, {.resumed_step = 4});
  CHECK(test::read(path) == kept);
}

TEST_CASE("a log that cannot be read is not begun anew") {
  const test::Folder folder;
  std::filesystem::create_directory(folder / "metrics.jsonl");
  CHECK(has(error_of([&] { golem::MetricsLog(folder / "metrics.jsonl", {.resumed_step = 3}); }), "metrics.jsonl' to go on with it: "));
}

TEST_CASE("metrics read back as they were reported; NaN is null") {
  const test::Folder folder;
  const std::string path = folder / "metrics.jsonl";
  {
    golem::MetricsLog log(path, {.timing = false});
    log.write(logged_report(1));
    golem::StepReport sick = logged_report(2);
    sick.loss = std::nan(""), sick.gradient_norm = std::numeric_limits<double>::infinity(), sick.skipped = true, sick.note = "overflow \xff";
    log.write(sick);
    log.write_validation(2, 3.25);
  }
  const std::string text = test::read(path);
  CHECK(text.substr(0, text.find('\n')) == R"({"step":1,"samples":8,"tokens":512,"loss":10.0,"losses":{"blank":0.3333333333333333,"generation":2.5},)"
                                           R"("gradient_norm":1.5,"learning_rate":0.1,"loss_scale":1.0})");
  CHECK(has(text, "\"loss\":null"));
  CHECK(has(text, "\"skipped\":true"));
  CHECK(!has(text, "seconds"));

  const auto records = golem::read_metrics(path);
  REQUIRE(records.size() == 3);
  CHECK(records[0].loss == 10);
  CHECK(records[0].task_losses[0] == 1.0 / 3);
  CHECK(records[0].task_losses[1] == 2.5);
  CHECK(std::isnan(records[0].task_losses[2]));
  CHECK(std::isnan(records[1].loss));
  CHECK(std::isnan(records[1].gradient_norm));
  CHECK(std::isnan(records[1].task_losses[1]));
  CHECK(records[2].step == 2);
  CHECK(records[2].validation_loss == 3.25);
}

TEST_CASE("a damaged line is named, and nothing is cut from a damaged file") {
  const test::Folder folder;
  const std::string path = folder / "metrics.jsonl", text = "{\"step\":1}\nnot JSON\n{\"step\":3}\n";
  test::write(path, text);
  CHECK(has(error_of([&] { golem::read_metrics(path); }), "'" + path + "', line 2: expected a JSON object with a step, found 'not JSON'"));
  CHECK(has(error_of([&] { golem::MetricsLog(path, {.resumed_step = 3}); }), "line 2 is damaged"));
  CHECK(test::read(path) == text);
  CHECK_NOTHROW(golem::MetricsLog(path, {.resumed_step = 1}));  // what a power cut left behind the checkpoint goes with the rest there
  CHECK(test::read(path) == "{\"step\":1}\n");
  CHECK(has(error_of([&] { golem::MetricsLog(folder / "none/metrics.jsonl"); }), "No such file"));
  golem::MetricsLog log(folder / "full.jsonl");
  const std::string sentence = error_of([&] {
    const test::FullDisk full(20);
    log.write_validation(1, 2);
  });
  CHECK(has(sentence, "cannot write to '" + folder.path + "/full.jsonl': File too large"));
}
