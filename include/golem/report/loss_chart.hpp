// loss.svg: the losses of a training, each objective by itself, smoothed over the raw values, and the validation loss.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "golem/core/step_report.hpp"
#include "golem/report/chart.hpp"
#include "golem/report/metrics_log.hpp"

namespace golem {

/// Exponential mean of the values so far, over about `span` of them, and over fewer where fewer than eight spans have passed: losses fall fast at
/// first, and the mean must not lag behind. Values that are not finite are passed over; NaN until one is finite.
inline std::vector<double> smoothed(const std::vector<double>& values, double span) {
  double mean = MetricsRecord::none, seen = 0;
  std::vector<double> out;
  out.reserve(values.size());
  for (const double value : values) {
    if (std::isfinite(value)) {
      const double share = 2 / (std::clamp(seen / 8, 1.0, std::max(1.0, span)) + 1);
      mean = seen == 0 ? value : mean + share * (value - mean);
      ++seen;
    }
    out.push_back(mean);
  }
  return out;
}

namespace chart {

/// One loss in two series: the raw values, faint, and the smoothed ones, named with the newest value.
inline void add_loss(Chart& chart, const std::string& name, int color, std::vector<double> steps, std::vector<double> losses) {
  if (steps.empty()) return;
  const auto mean = smoothed(losses, static_cast<double>(losses.size()) / 40);
  char last[32];
  std::snprintf(last, sizeof last, " %.3f", mean.back());
  chart.series.push_back({"", steps, std::move(losses), LineStyle::faint, color});
  chart.series.push_back({name + last, std::move(steps), mean, LineStyle::solid, color});
}

}  // namespace chart

/// The chart of what metrics.jsonl holds. Without losses of single tasks it shows the loss of all.
inline Chart loss_chart(const std::vector<MetricsRecord>& records, Scale y_scale = Scale::linear) {
  constexpr std::array<const char*, task_count> names{"[MASK]", "[gMASK]", "instructions"};
  std::array<std::vector<double>, task_count> steps, losses;
  std::vector<double> all_steps, all_losses;
  Series validation{"", {}, {}, LineStyle::marked, 3};
  for (const MetricsRecord& record : records) {
    const auto step = static_cast<double>(record.step);
    if (std::isfinite(record.validation_loss)) {
      validation.x.push_back(step);
      validation.y.push_back(record.validation_loss);
      continue;
    }
    all_steps.push_back(step);
    all_losses.push_back(record.loss);
    for (int i = 0; i < task_count; ++i) {
      if (!std::isfinite(record.task_losses[i])) continue;
      steps[i].push_back(step);
      losses[i].push_back(record.task_losses[i]);
    }
  }
  Chart chart{"Training loss", "step", "nats per token", y_scale, 920, 460, {}};
  for (int i = 0; i < task_count; ++i) chart::add_loss(chart, names[i], i, std::move(steps[i]), std::move(losses[i]));
  if (chart.series.empty()) chart::add_loss(chart, "loss", 0, std::move(all_steps), std::move(all_losses));
  if (!validation.x.empty()) {
    char last[48];
    std::snprintf(last, sizeof last, "validation %.3f", validation.y.back());
    validation.name = last;
    chart.series.push_back(std::move(validation));
  }
  return chart;
}

}  // namespace golem
