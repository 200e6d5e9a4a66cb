// Progress: one line about the training, rewritten in place on a terminal.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>

#include "golem/core/error.hpp"
#include "golem/core/step_report.hpp"

namespace golem {

struct ProgressOptions {
  std::int64_t steps = 0;    // of the whole run; 0: unknown, and no time left is shown
  double every_seconds = 0;  // where the stream is no terminal: a line as often as this; 0: silent
  std::FILE* stream = stderr;
};

namespace progress {

/// "1.2k", "34.5M": three digits or so.
inline std::string short_number(double value) {
  const char* const units[]{"", "k", "M", "G", "T"};
  int unit = 0;
  while (std::fabs(value) >= 999.5 && unit < 4) value /= 1000, ++unit;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 || value >= 99.95 ? "%.0f%s" : "%.1f%s", value, units[unit]);
  return text;
}

/// "42s", "3m05s", "7h20m", "12d03h".
inline std::string short_time(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  const auto s = static_cast<long long>(std::min(seconds + 0.5, 3e12));
  char text[48];
  if (s < 60)
    std::snprintf(text, sizeof text, "%llds", s);
  else if (s < 3600)
    std::snprintf(text, sizeof text, "%lldm%02llds", s / 60, s % 60);
  else if (s < 86400)
    std::snprintf(text, sizeof text, "%lldh%02lldm", s / 3600, s / 60 % 60);
  else
    std::snprintf(text, sizeof text, "%lldd%02lldh", s / 86400, s / 3600 % 24);
  return text;
}

/// The line, without an end: "step 120/1000  loss 3.4512  12.3k tokens/s  norm 0.83  lr 0.0003  left 3m05s".
/// `seconds` and `tokens` are of one step, smoothed.
inline std::string line(const StepReport& report, std::int64_t steps, double seconds, double tokens) {
  char part[64];
  std::string out = sentence("step ", report.step);
  if (steps > 0) out += sentence("/", steps);
  std::snprintf(part, sizeof part, "  loss %.4f", report.loss);
  out += part;
  if (seconds > 0) out += "  " + short_number(tokens / seconds) + " tokens/s";
  std::snprintf(part, sizeof part, "  norm %.3g  lr %.3g", report.gradient_norm, report.learning_rate);
  out += part;
  if (report.loss_scale != 1) out += "  scale " + short_number(report.loss_scale);
  if (steps > 0 && seconds > 0) out += "  left " + short_time(static_cast<double>(std::max<std::int64_t>(0, steps - report.step)) * seconds);
  return out;
}

}  // namespace progress

/// Shows reports as they come. What a step has to note, and a skipped step, get lines of their own, which stay.
class Progress {
 public:
  explicit Progress(const ProgressOptions& options = {}) : options_(options), terminal_(::isatty(::fileno(options.stream)) == 1) {}
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { finish(); }

  void show(const StepReport& report) {
    // A twentieth of the newest step: the speed of the last half minute or so, not of the last instant. Before that, the plain mean.
    const double share = std::max(1.0 / static_cast<double>(++seen_), 0.05);
    seconds_ += share * (report.seconds - seconds_);
    tokens_ += share * (static_cast<double>(report.tokens) - tokens_);
    if (!terminal_ && options_.every_seconds <= 0) return;
    if (report.skipped || !report.note.empty()) remark(report);
    const bool last = options_.steps > 0 && report.step >= options_.steps;
    const auto now = Clock::now();
    const double pause = terminal_ ? 0.1 : options_.every_seconds;  // a terminal is written to ten times a second at most
    if (seen_ > 1 && !last && std::chrono::duration<double>(now - shown_).count() < pause) return;
    shown_ = now;
    print(progress::line(report, options_.steps, seconds_, tokens_));
  }

  /// Leaves the last line where it is, and the cursor below it.
  void finish() {
    if (open_) std::fputs("\n", options_.stream);
    open_ = false;
  }

 private:
  using Clock = std::chrono::steady_clock;

  void remark(const StepReport& report) {
    if (open_) std::fputs("\r\x1b[K", options_.stream);
    open_ = false;
    const char* const what = report.note.empty() ? "the update was skipped" : report.note.c_str();
    std::fprintf(options_.stream, "step %lld: %s\n", static_cast<long long>(report.step), what);
  }

  void print(std::string text) {
    if (!terminal_) {
      std::fprintf(options_.stream, "%s\n", text.c_str());
    } else {
      winsize size{};
      if (::ioctl(::fileno(options_.stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 1 && text.size() >= size.ws_col) text.resize(size.ws_col - 1);
      std::fprintf(options_.stream, "\r%s\x1b[K", text.c_str());
      open_ = true;
    }
    std::fflush(options_.stream);
  }

  ProgressOptions options_;
  bool terminal_ = false, open_ = false;  // open: the cursor is at the end of the line
  std::int64_t seen_ = 0;
  double seconds_ = 0, tokens_ = 0;  // of a step, smoothed
  Clock::time_point shown_;
};

}  // namespace golem
