// Memory as SVG text: a bar for each stage of a layout, item by item, beside what the machine has.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "golem/config/plan_inference.hpp"
#include "golem/config/plan_training.hpp"
#include "golem/report/axis.hpp"
#include "golem/report/chart.hpp"
#include "golem/report/whole_file.hpp"

namespace golem {

struct MemoryItem {
  std::string name;
  std::int64_t bytes = 0;
};

struct MemoryBar {
  std::string name;
  std::vector<MemoryItem> items{};  // the same names in the same order in all bars
};

struct MemoryChart {
  std::string title{}, subtitle{};
  std::vector<MemoryBar> bars{};
  std::int64_t limit = 0;  // bytes that may be used; 0: not shown
  int width = 920;         // CSS pixels
};

namespace memory_chart {

inline constexpr int left = 84, right = 84, top = 98, bar_height = 24, bar_gap = 8;  // pixels
inline constexpr const char* fills[]{"#5b8def", "#8fb8f6", "#86cdaa", "#3fa37a", "#f3c179", "#b9a5e0", "#c9ced6", "#e58f8f"};

inline std::string fill_of(std::size_t item) { return sentence("fill=\"", fills[item % std::size(fills)], "\""); }

inline double gibibytes(std::int64_t bytes) { return static_cast<double>(bytes) / (std::int64_t{1} << 30); }

inline std::int64_t total(const MemoryBar& bar) {
  std::int64_t sum = 0;
  for (const MemoryItem& item : bar.items) sum += item.bytes;
  return sum;
}

/// One decimal and the unit.
inline std::string amount(std::int64_t bytes) {
  std::string out;
  chart::append_number(out, gibibytes(bytes));
  return out + " GiB";
}

}  // namespace memory_chart

/// The chart as an SVG document.
inline std::string to_svg(const MemoryChart& m) {
  using namespace memory_chart;
  std::int64_t most = m.limit;
  for (const MemoryBar& bar : m.bars) most = std::max(most, total(bar));
  const Axis axis = make_axis(0, std::max(gibibytes(most), 1e-9) * 1.02, 8, Scale::linear, AxisRange::exact);
  const double width = m.width - left - right, bottom = top + static_cast<double>(m.bars.size()) * (bar_height + bar_gap);
  const auto place = [&](double gib) { return left + axis.place(gib) * width; };
  const int height = static_cast<int>(bottom) + 52;
  std::string out = chart::opening(m.width, height);
  out += chart::text_at(24, 28, "font-size=\"17\" font-weight=\"600\" fill=\"#1f2328\"", m.title) +
         chart::text_at(24, 49, "fill=\"#5f6670\"", m.subtitle);
  double x = 24;
  for (std::size_t item = 0; !m.bars.empty() && item < m.bars[0].items.size(); ++item) {
    const std::string& name = m.bars[0].items[item].name;
    out += chart::rectangle(x, 62, 14, 14, fill_of(item)) + chart::text_at(x + 20, 73.5, "fill=\"#1f2328\"", name);
    x += 20 + 7.8 * static_cast<double>(name.size()) + 18;
  }
  for (const Tick& tick : axis.ticks) {
    out += chart::line_at(place(tick.value), top - 6, place(tick.value), bottom, "stroke=\"#e8eaed\"");
    out += chart::text_at(place(tick.value), bottom + 16, "text-anchor=\"middle\" fill=\"#5f6670\"", tick.label);
  }
  out += chart::text_at(left - 10, bottom + 16, "text-anchor=\"end\" fill=\"#5f6670\"", "GiB");
  double y = top;
  for (const MemoryBar& bar : m.bars) {
    out += chart::text_at(left - 10, y + bar_height / 2.0 + 4.5, "text-anchor=\"end\" fill=\"#1f2328\"", bar.name);
    double from = 0;
    for (std::size_t item = 0; item < bar.items.size(); ++item) {
      const double to = from + gibibytes(bar.items[item].bytes);
      if (bar.items[item].bytes > 0) out += chart::rectangle(place(from), y, place(to) - place(from), bar_height, fill_of(item));
      from = to;
    }
    const bool over = m.limit > 0 && total(bar) > m.limit;
    out += chart::text_at(place(from) + 6, y + bar_height / 2.0 + 4.5, over ? "fill=\"#c0262d\" font-weight=\"600\"" : "fill=\"#1f2328\"",
                          amount(total(bar)));
    y += bar_height + bar_gap;
  }
  if (m.limit > 0) {
    const double limit = place(gibibytes(m.limit));
    out += chart::line_at(limit, top - 6, limit, bottom, "stroke=\"#c0262d\" stroke-width=\"1.5\" stroke-dasharray=\"5 3\"");
    out += chart::text_at(limit, bottom + 36, "text-anchor=\"middle\" fill=\"#c0262d\"", "usable: " + amount(m.limit));
  }
  return out + "</svg>\n";
}

/// Writes the chart to a file. Throws Error where it cannot be written.
inline void write_memory_chart(const std::string& path, const MemoryChart& m) { write_whole(path, "memory chart", to_svg(m)); }

/// What training holds, as items of a bar.
inline std::vector<MemoryItem> items_of(const TrainingMemory& memory) {
  return {{"weights", memory.weights},
          {"master weights", memory.master_weights},
          {"gradients", memory.gradients},
          {"moments", memory.moments},
          {"activations", memory.activations},
          {"head", memory.head},
          {"communication", memory.communication},
          {"workspace", memory.workspace}};
}

/// The same of what an engine holds.
inline std::vector<MemoryItem> items_of(const InferenceMemory& memory) {
  return {{"weights", memory.weights}, {"key-value cache", memory.key_value_cache}, {"activations", memory.activations}, {"head", memory.head}, {"workspace", memory.workspace}};
}

}  // namespace golem
