// Axis: the range of a chart's side, with ticks at round numbers, linear or logarithmic.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

namespace golem {

enum class Scale { linear, logarithmic };

struct Tick {
  double value = 0;
  std::string label;
};

/// Values from `low` to `high` lie on it.
struct Axis {
  double low = 0, high = 1;
  Scale scale = Scale::linear;
  std::vector<Tick> ticks{};  // ascending, within the range

  /// Whether a value has a place on such an axis at all, be it outside the range. Beyond 1e150 the arithmetic would overflow.
  bool holds(double value) const { return std::fabs(value) < 1e150 && (scale == Scale::linear || value > 1e-150); }

  /// 0 at `low`, 1 at `high`.
  double place(double value) const { return scale == Scale::linear ? (value - low) / (high - low) : std::log(value / low) / std::log(high / low); }
};

enum class AxisRange { exact, to_ticks };  // to_ticks: widened until it begins and ends at a tick

namespace axis {

/// 1, 2 or 5 times a power of ten, at least `width`.
inline double round_step(double width) {
  const double power = std::pow(10, std::floor(std::log10(width)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (width <= factor * power * (1 + 1e-9)) return factor * power;
  return 10 * power;
}

/// "0.25", "12", "40k", "3e-05": as many digits as the step between ticks asks for.
inline std::string label(double value, double step) {
  char text[48];
  const double size = std::fabs(value);
  if (size < step * 1e-6) return "0";
  if (size >= 1e9 || step < 1e-4) {
    std::snprintf(text, sizeof text, "%.3g", value);
  } else {
    const char* const unit = step >= 1e6 || (size >= 1e6 && step >= 1e4) ? "M" : size >= 1e4 && step >= 10 ? "k" : "";
    const double divisor = *unit == 'M' ? 1e6 : *unit == 'k' ? 1e3 : 1;
    const int digits = std::max(0, static_cast<int>(std::ceil(-std::log10(step / divisor) - 1e-9)));
    std::snprintf(text, sizeof text, "%.*f%s", digits, value / divisor, unit);
  }
  return text;
}

inline void linear_ticks(Axis& axis, int about, AxisRange range) {
  const double step = round_step((axis.high - axis.low) / about);
  if (range == AxisRange::to_ticks) {
    axis.low = std::floor(axis.low / step + 1e-9) * step;
    axis.high = std::ceil(axis.high / step - 1e-9) * step;
  }
  const double first = std::ceil(axis.low / step - 1e-9), last = std::floor(axis.high / step + 1e-9);
  for (double i = first; i <= last; ++i) axis.ticks.push_back({i * step, label(i * step, step)});
}

/// Powers of ten, thinned out where there are many; 1, 2 and 5 times them where there are few.
inline void logarithmic_ticks(Axis& axis, int about, AxisRange range) {
  const double decades = std::log10(axis.high / axis.low);
  const std::vector<double> factors = decades > 3 ? std::vector<double>{1} : std::vector<double>{1, 2, 5};
  const int stride = std::max(1, static_cast<int>(std::ceil(decades / about)));
  std::vector<double> values;
  for (int power = static_cast<int>(std::floor(std::log10(axis.low))) - stride; power <= std::ceil(std::log10(axis.high)) + stride; ++power)
    for (const double factor : factors)
      if (power % stride == 0) values.push_back(factor * std::pow(10, power));
  if (range == AxisRange::to_ticks) {
    axis.low = *(std::upper_bound(values.begin(), values.end(), axis.low * (1 + 1e-9)) - 1);
    axis.high = *std::lower_bound(values.begin(), values.end(), axis.high * (1 - 1e-9));
  }
  for (const double value : values)
    if (value >= axis.low * (1 - 1e-9) && value <= axis.high * (1 + 1e-9)) axis.ticks.push_back({value, label(value, value)});
}

}  // namespace axis

/// An axis over [low, high] with about `about` ticks. A range without width is given some; a logarithmic one must be positive, else it becomes
/// linear.
inline Axis make_axis(double low, double high, int about, Scale scale, AxisRange range) {
  Axis out{std::min(low, high), std::max(low, high), low > 0 && high > 0 ? scale : Scale::linear, {}};
  const double least = 1e-9 * std::max(std::fabs(out.low), std::fabs(out.high));  // what doubles and labels can still tell apart
  if (out.high - out.low <= least) {
    const double half = out.low == 0 ? 0.5 : 0.05 * std::fabs(out.low);
    out.low -= half, out.high += half;
  }
  if (out.scale == Scale::linear)
    axis::linear_ticks(out, about, range);
  else
    axis::logarithmic_ticks(out, about, range);
  return out;
}

}  // namespace golem
