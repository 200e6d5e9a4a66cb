// Timelines as SVG text: a row for each stage of a pipeline, what it does when, and where it waits; long steps begin and end only.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "golem/config/simulate.hpp"
#include "golem/report/axis.hpp"
#include "golem/report/chart.hpp"

namespace golem {

/// What a span shows: the work of an action, or what follows the pipeline.
enum class SpanKind : std::uint8_t { forward, backward, backward_input, backward_weight, update };

struct TimelineSpan {
  double start = 0, end = 0;  // seconds
  SpanKind kind = SpanKind::forward;
  int chunk = 0;
  std::string label{};  // written into the span where there is room
};

struct TimelineRow {
  std::string name;
  std::vector<TimelineSpan> spans{};
};

struct Timeline {
  std::string title{}, subtitle{};
  std::vector<TimelineRow> rows{};
  int width = 1280;       // CSS pixels
  double narrowest = 15;  // pixels that an average forward gets; where the whole is too long for that, its beginning and its end are drawn
};

namespace timeline {

inline constexpr int left = 76, right = 24, top = 92, row_height = 30, row_gap = 4, between = 40;  // pixels

struct Look {
  const char *name, *fill;
};
inline constexpr Look looks[]{{"forward", "#8fb8f6"},
                              {"backward", "#86cdaa"},
                              {"backward, inputs", "#86cdaa"},
                              {"backward, weights", "#f3c179"},
                              {"gradients reduced, weights moved", "#b9a5e0"}};

inline const Look& look_of(SpanKind kind) { return looks[static_cast<std::size_t>(kind)]; }

/// A part of the time, and where it is drawn.
struct Window {
  double from = 0, to = 1, x = 0, width = 1;
  double place(double seconds) const { return x + (std::clamp(seconds, from, to) - from) / (to - from) * width; }
};

inline std::vector<Window> windows_of(const Timeline& t) {
  double end = 0, forward = 0;
  int forwards = 0;
  for (const TimelineRow& row : t.rows)
    for (const TimelineSpan& span : row.spans) {
      end = std::max(end, span.end);
      if (span.kind == SpanKind::forward) forward += span.end - span.start, ++forwards;
    }
  const double width = t.width - left - right;
  if (!(end > 0)) end = 1;
  const double shown = forwards > 0 && forward > 0 ? forward / forwards / t.narrowest * (width - between) / 2 : end;
  if (2 * shown >= end) return {{0, end, left, width}};
  const double half = (width - between) / 2;
  return {{0, shown, left, half}, {end - shown, end, left + half + between, half}};
}

inline std::string drawn(const TimelineSpan& span, const Window& window, double y) {
  if (span.end <= window.from || span.start >= window.to) return {};
  constexpr double letter = 6;
  const double x = window.place(span.start), width = window.place(span.end) - x, paler = 1 - 0.22 * std::min(span.chunk, 3);
  std::string attributes = sentence("fill=\"", look_of(span.kind).fill, "\"");
  if (span.chunk > 0) attributes += sentence(" fill-opacity=\"", std::round(paler * 100) / 100, "\"");
  if (width > 3) attributes += " stroke=\"#ffffff\" stroke-width=\"0.8\"";
  std::string out = chart::rectangle(x, y, width, row_height, attributes);
  if (!span.label.empty() && width >= letter * static_cast<double>(span.label.size()) + 2)
    out += chart::text_at(x + width / 2, y + row_height / 2.0 + 3.5, "text-anchor=\"middle\" font-size=\"10\" fill=\"#1f2937\"", span.label);
  return out;
}

inline std::string legend(const Timeline& t) {
  bool used[std::size(looks)] = {};
  int chunks = 0;
  for (const TimelineRow& row : t.rows)
    for (const TimelineSpan& span : row.spans) used[static_cast<std::size_t>(span.kind)] = true, chunks = std::max(chunks, span.chunk + 1);
  std::string out;
  double x = left;
  const auto entry = [&](const char* fill, std::string_view name) {
    out += chart::rectangle(x, 62, 14, 14, sentence("fill=\"", fill, "\" rx=\"2\""));
    out += chart::text_at(x + 20, 73.5, "fill=\"#1f2328\"", name);
    x += 20 + 7 * static_cast<double>(name.size()) + 22;
  };
  for (std::size_t kind = 0; kind < std::size(looks); ++kind)
    if (used[kind]) entry(looks[kind].fill, looks[kind].name);
  entry("#e9ebee", "waits");
  if (chunks > 1) out += chart::text_at(x, 73.5, "fill=\"#5f6670\"", "paler: later chunks of layers");
  return out;
}

/// Ticks below the rows, and a sign where time is left out.
inline std::string scale_of(const std::vector<Window>& windows, double bottom) {
  std::string out;
  for (const Window& window : windows) {
    for (const Tick& tick : make_axis(window.from, window.to, windows.size() > 1 ? 5 : 10, Scale::linear, AxisRange::exact).ticks) {
      const double x = window.place(tick.value);
      out += chart::line_at(x, bottom, x, bottom + 5, "stroke=\"#9aa1ab\"");
      out += chart::text_at(x, bottom + 20, "text-anchor=\"middle\" fill=\"#5f6670\"", tick.label);
    }
    out += chart::line_at(window.x, bottom, window.x + window.width, bottom, "stroke=\"#9aa1ab\"");
  }
  if (windows.size() > 1) {
    const double x = windows[0].x + windows[0].width + between / 2.0, middle = (top + bottom) / 2;
    for (const double dx : {-8.0, 0.0, 8.0}) out += chart::rectangle(x + dx - 1.5, middle - 1.5, 3, 3, "rx=\"1.5\" fill=\"#9aa1ab\"");
  }
  const Window& last = windows.back();
  return out + chart::text_at(last.x + last.width, bottom + 38, "text-anchor=\"end\" fill=\"#5f6670\"", "seconds");
}

}  // namespace timeline

/// The timeline as an SVG document.
inline std::string to_svg(const Timeline& t) {
  using namespace timeline;
  const std::vector<timeline::Window> windows = windows_of(t);
  const double bottom = top + static_cast<double>(t.rows.size()) * (row_height + row_gap);
  const int height = static_cast<int>(bottom) + 52;
  std::string out = chart::opening(t.width, height);
  out += chart::text_at(24, 28, "font-size=\"17\" font-weight=\"600\" fill=\"#1f2328\"", t.title);
  out += chart::text_at(24, 49, "fill=\"#5f6670\"", t.subtitle) + legend(t);
  double y = top;
  for (const TimelineRow& row : t.rows) {
    out += chart::text_at(left - 10, y + row_height / 2.0 + 4.5, "text-anchor=\"end\" fill=\"#1f2328\"", row.name);
    for (const timeline::Window& window : windows) {
      out += chart::rectangle(window.x, y, window.width, row_height, "fill=\"#e9ebee\"");
      for (const TimelineSpan& span : row.spans) out += timeline::drawn(span, window, y);
    }
    y += row_height + row_gap;
  }
  return out + scale_of(windows, bottom + 2) + "</svg>\n";
}

/// Writes the timeline to a file. Throws Error where it cannot be written.
inline void write_timeline(const std::string& path, const Timeline& t) { write_whole(path, "timeline", to_svg(t)); }

/// A pipeline that ran, on paper or measured: a row for each stage, micro-batches numbered from 1.
inline Timeline timeline_of(const PipelineRun& run) {
  Timeline t;
  for (std::size_t stage = 0; stage < run.stages.size(); ++stage) {
    t.rows.push_back({sentence("stage ", stage)});
    for (const TimedAction& timed : run.stages[stage])
      t.rows.back().spans.push_back(
          {timed.start, timed.end, static_cast<SpanKind>(timed.action.work), timed.action.chunk, sentence(timed.action.micro_batch + 1)});
  }
  return t;
}

/// A step on paper, with what follows its pipeline.
inline Timeline timeline_of(const StepOnPaper& step) {
  Timeline t = timeline_of(step.run);
  for (TimelineRow& row : t.rows) row.spans.push_back({step.pipeline, step.seconds, SpanKind::update});
  return t;
}

}  // namespace golem
