// Line charts as SVG text: axes with round ticks, a grid, a legend. Values that are not finite break a line; they harm nothing else.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/report/axis.hpp"
#include "golem/report/whole_file.hpp"

namespace golem {

enum class LineStyle { solid, faint, marked };  // faint: thin and pale, behind the others; marked: with a dot at each point

struct Series {
  std::string name{};  // in the legend; none: not there
  std::vector<double> x{}, y{};
  LineStyle style = LineStyle::solid;
  int color = 0;  // of chart_colors
};

struct Chart {
  std::string title{}, x_label{}, y_label{};
  Scale y_scale = Scale::linear;
  int width = 920, height = 460;  // CSS pixels
  std::vector<Series> series{};
};

/// Told apart by colour-blind eyes too, and dark enough on white.
inline constexpr const char* chart_colors[]{"#2563eb", "#dd6b10", "#0d8a6a", "#a21caf", "#6b7280"};

namespace chart {

inline constexpr int left = 64, right = 24, top = 76, bottom = 52;  // margins, pixels

inline void append_number(std::string& out, double value) {
  char digits[64];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, value, std::chars_format::fixed, 1).ptr);
}

inline std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (static_cast<unsigned char>(c) >= 0x20)
      out += c;
  }
  return out;
}

inline std::string text_at(double x, double y, std::string_view attributes, std::string_view text) {
  std::string out = "<text x=\"";
  append_number(out, x);
  out += "\" y=\"";
  append_number(out, y);
  return out + "\" " + std::string(attributes) + ">" + escaped(text) + "</text>\n";
}

inline std::string line_at(double x1, double y1, double x2, double y2, std::string_view attributes) {
  std::string out = "<path d=\"M";
  for (const double value : {x1, y1, x2, y2}) {
    append_number(out, value);
    out += ' ';
  }
  return out + "\" " + std::string(attributes) + "/>\n";
}

inline std::string rectangle(double x, double y, double width, double height, std::string_view attributes) {
  std::string out = "<rect x=\"";
  append_number(out, x);
  out += "\" y=\"";
  append_number(out, y);
  out += "\" width=\"";
  append_number(out, width);
  out += "\" height=\"";
  append_number(out, height);
  return out + "\" " + std::string(attributes) + "/>\n";
}

/// The beginning of a document of this size, in CSS pixels, white.
inline std::string opening(int width, int height) {
  const std::string size = sentence("width=\"", width, "\" height=\"", height, "\"");
  return sentence("<svg xmlns=\"http://www.w3.org/2000/svg\" ", size, " viewBox=\"0 0 ", width, " ", height,
                  "\" font-family=\"Inter, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif\" font-size=\"13\">\n<rect ", size, " fill=\"#ffffff\"/>\n");
}

/// Smallest and largest of the values that have a place on such an axis; of the faint series only where there is no other.
struct Extent {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  void add(double value) { low = std::min(low, value), high = std::max(high, value); }
  bool empty() const { return low > high; }
};

struct Extents {
  Extent x, y;
};

inline Extents extents_of(const Chart& chart) {
  const Axis judge{0, 1, chart.y_scale, {}};
  Extents all, faint;
  for (const Series& series : chart.series) {
    Extents& extents = series.style == LineStyle::faint ? faint : all;
    for (std::size_t i = 0; i < std::min(series.x.size(), series.y.size()); ++i) {
      if (!Axis{}.holds(series.x[i]) || !judge.holds(series.y[i])) continue;
      all.x.add(series.x[i]);
      extents.y.add(series.y[i]);
    }
  }
  if (all.y.empty()) all.y = faint.y;
  return all;
}

/// Where the chart's values lie on the picture.
struct Frame {
  Axis x, y;
  double width = 0, height = 0;  // of the area inside the axes
  double across(double value) const { return left + x.place(value) * width; }
  double down(double value) const { return top + (1 - std::clamp(y.place(value), -1.0, 2.0)) * height; }
};

/// The `d` of a path. Where many points fall on one pixel, only the lowest and the highest are drawn.
inline std::string path_of(const Series& series, const Frame& frame) {
  std::string out;
  bool drawing = false;
  const std::size_t count = std::min(series.x.size(), series.y.size());
  const auto valid = [&](std::size_t i) { return frame.x.holds(series.x[i]) && frame.y.holds(series.y[i]); };
  const auto point = [&](std::size_t i) {
    out += drawing ? 'L' : 'M';
    append_number(out, frame.across(series.x[i]));
    out += ' ';
    append_number(out, frame.down(series.y[i]));
    drawing = true;
  };
  for (std::size_t i = 0; i < count;) {
    if (!valid(i)) {
      drawing = false;
      ++i;
      continue;
    }
    const double pixel = std::floor(frame.across(series.x[i]));
    std::size_t lowest = i, highest = i, end = i;
    for (; end < count && valid(end) && std::floor(frame.across(series.x[end])) == pixel; ++end) {
      if (series.y[end] < series.y[lowest]) lowest = end;
      if (series.y[end] > series.y[highest]) highest = end;
    }
    point(std::min(lowest, highest));
    if (lowest != highest) point(std::max(lowest, highest));
    i = end;
  }
  return out;
}

inline std::string drawn(const Series& series, const Frame& frame) {
  const std::string color = chart_colors[static_cast<std::size_t>(series.color) % std::size(chart_colors)];
  const std::string stroke = series.style == LineStyle::faint ? "\" stroke-width=\"1\" stroke-opacity=\"0.28" : "\" stroke-width=\"2";
  std::string out = "<path d=\"" + path_of(series, frame) + "\" fill=\"none\" stroke=\"" + color + stroke +
                    "\" stroke-linejoin=\"round\" stroke-linecap=\"round\"/>\n";
  if (series.style != LineStyle::marked) return out;
  for (std::size_t i = 0; i < std::min(series.x.size(), series.y.size()); ++i) {
    if (!frame.x.holds(series.x[i]) || !frame.y.holds(series.y[i])) continue;
    out += "<circle cx=\"";
    append_number(out, frame.across(series.x[i]));
    out += "\" cy=\"";
    append_number(out, frame.down(series.y[i]));
    out += "\" r=\"3\" fill=\"#ffffff\" stroke-width=\"1.8\" stroke=\"" + color + "\"/>\n";
  }
  return out;
}

/// Grid, ticks and labels.
inline std::string scaffold(const Chart& chart, const Frame& frame) {
  const double floor = top + frame.height, end = left + frame.width;
  std::string out;
  for (const Tick& tick : frame.y.ticks) {
    const double y = frame.down(tick.value);
    out += line_at(left, y, end, y, "stroke=\"#e8eaed\"");
    out += text_at(left - 10, y + 4, "text-anchor=\"end\" fill=\"#5f6670\"", tick.label);
  }
  for (const Tick& tick : frame.x.ticks) {
    const double x = frame.across(tick.value);
    out += line_at(x, floor, x, floor + 5, "stroke=\"#9aa1ab\"");
    out += text_at(x, floor + 20, "text-anchor=\"middle\" fill=\"#5f6670\"", tick.label);
  }
  out += line_at(left, floor, end, floor, "stroke=\"#9aa1ab\"");
  out += text_at(left - 40, 30, "font-size=\"17\" font-weight=\"600\" fill=\"#1f2328\"", chart.title);
  out += text_at(left - 40, 54, "fill=\"#5f6670\"", chart.y_label);
  out += text_at(end, floor + 40, "text-anchor=\"end\" fill=\"#5f6670\"", chart.x_label);
  return out;
}

/// In one row at the right above the grid. Letters are taken to be 7 pixels wide.
inline std::string legend(const Chart& chart, const Frame& frame) {
  constexpr double letter = 7, swatch = 26, gap = 18;
  double x = left + frame.width;
  for (const Series& series : chart.series)
    if (!series.name.empty()) x -= swatch + letter * static_cast<double>(series.name.size()) + gap;
  x += gap;
  std::string out;
  for (const Series& series : chart.series) {
    if (series.name.empty()) continue;
    const std::string color = chart_colors[static_cast<std::size_t>(series.color) % std::size(chart_colors)];
    out += line_at(x, 50, x + 18, 50, "stroke-width=\"3\" stroke-linecap=\"round\" stroke=\"" + color + "\"");
    out += text_at(x + swatch, 54, "fill=\"#1f2328\"", series.name);
    x += swatch + letter * static_cast<double>(series.name.size()) + gap;
  }
  return out;
}

}  // namespace chart

/// The chart as an SVG document. Faint series do not widen the y axis where there are others: what leaves it is cut off.
inline std::string to_svg(const Chart& chart) {
  chart::Extents extents = chart::extents_of(chart);
  const bool empty = extents.x.empty();
  if (empty) extents.x.add(0), extents.x.add(1), extents.y = extents.x;
  chart::Frame frame{make_axis(extents.x.low, extents.x.high, 8, Scale::linear, AxisRange::exact),
                     make_axis(extents.y.low, extents.y.high, 6, chart.y_scale, AxisRange::to_ticks),
                     static_cast<double>(chart.width - chart::left - chart::right), static_cast<double>(chart.height - chart::top - chart::bottom)};
  std::string out = chart::opening(chart.width, chart.height);
  out += sentence("<clipPath id=\"inside\"><rect x=\"", chart::left, "\" y=\"", chart::top - 4, "\" width=\"", static_cast<int>(frame.width) + 4, "\" height=\"",
                  static_cast<int>(frame.height) + 8, "\"/></clipPath>\n");
  out += chart::scaffold(chart, frame);
  out += "<g clip-path=\"url(#inside)\">\n";
  for (const bool faint : {true, false})
    for (const Series& series : chart.series)
      if ((series.style == LineStyle::faint) == faint) out += chart::drawn(series, frame);
  out += "</g>\n" + chart::legend(chart, frame);
  if (empty)
    out += chart::text_at(chart::left + frame.width / 2, chart::top + frame.height / 2, "text-anchor=\"middle\" fill=\"#5f6670\"", "no data yet");
  return out + "</svg>\n";
}

/// Writes the chart to a file; one that is looked at meanwhile is never seen half written. Throws Error where it cannot be written.
inline void write_chart(const std::string& path, const Chart& chart) {
  write_whole(path, "chart", to_svg(chart));
}

}  // namespace golem
