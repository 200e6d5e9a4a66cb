// Loss charts: each objective by itself, smoothed over raw, and the validation loss.
// SPDX-License-Identifier: Apache-2.0
#include "golem/report/loss_chart.hpp"

#include "catch.hpp"

TEST_CASE("smoothing keeps a constant, passes over NaN, and stays between the values") {
  const double nan = golem::MetricsRecord::none;
  CHECK(golem::smoothed({2, 2, nan, 2}, 10) == std::vector<double>{2, 2, 2, 2});
  CHECK(std::isnan(golem::smoothed({nan, 1}, 10)[0]));
  CHECK(golem::smoothed({nan, 1}, 10)[1] == 1);
  CHECK(golem::smoothed({1, 5, 3}, 0) == std::vector<double>{1, 5, 3});
  std::vector<double> steps(1000, 4.0);
  for (int i = 500; i < 1000; ++i) steps[static_cast<std::size_t>(i)] = 2.0;
  const auto mean = golem::smoothed(steps, 25);
  CHECK(mean[499] == 4);
  CHECK((mean[510] > 2.1 && mean[510] < 3.9));
  CHECK(mean[999] == Approx(2).margin(1e-6));
}

TEST_CASE("each objective has its raw and its smoothed line, and the validation its marks") {
  std::vector<golem::MetricsRecord> records;
  for (std::int64_t step = 1; step <= 20; ++step) {
    golem::MetricsRecord record;
    record.step = step, record.loss = 5;
    record.task_losses[0] = 4;
    if (step % 2) record.task_losses[1] = 6;
    records.push_back(record);
  }
  golem::MetricsRecord validation;
  validation.step = 20, validation.validation_loss = 4.5;
  records.push_back(validation);

  const golem::Chart chart = golem::loss_chart(records);
  REQUIRE(chart.series.size() == 5);
  CHECK(chart.series[0].style == golem::LineStyle::faint);
  CHECK(chart.series[1].name == "[MASK] 4.000");
  CHECK(chart.series[1].x.size() == 20);
  CHECK(chart.series[3].name == "[gMASK] 6.000");
  CHECK(chart.series[3].x.size() == 10);
  CHECK(chart.series[4].name == "validation 4.500");
  CHECK(chart.series[4].y == std::vector<double>{4.5});

  for (auto& record : records) record.task_losses = {golem::MetricsRecord::none, golem::MetricsRecord::none, golem::MetricsRecord::none};
  CHECK(golem::loss_chart(records).series[1].name == "loss 5.000");
  CHECK(golem::loss_chart({}).series.empty());
}
