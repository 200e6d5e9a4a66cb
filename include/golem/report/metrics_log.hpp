// MetricsLog: metrics.jsonl, one JSON object a step, which a resumed run goes on with as if it had never stopped.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/step_report.hpp"

namespace golem {

/// Names of the tasks in files, in the order of Task.
inline constexpr std::array<const char*, task_count> task_names{"blank", "generation", "instruction"};

/// A line of metrics.jsonl, read back: a step of training, or a validation. NaN where the line says nothing, or said NaN.
struct MetricsRecord {
  static constexpr double none = std::numeric_limits<double>::quiet_NaN();
  std::int64_t step = 0;
  double loss = none, validation_loss = none, gradient_norm = none, learning_rate = none;
  std::array<double, task_count> task_losses{none, none, none};
};

struct MetricsOptions {
  std::int64_t resumed_step = 0;  // the run goes on after this step: lines of later ones are cut off, for 0 all lines
  bool timing = true;             // write the seconds of each step; without them two equal runs write equal files
};

namespace metrics {

/// The record of a line; false for a line that is none (torn by a crash).
inline bool parse(std::string_view line, MetricsRecord& record) {
  const auto json = nlohmann::json::parse(line.begin(), line.end(), nullptr, false);
  if (!json.is_object()) return false;
  const auto step = json.find("step");
  if (step == json.end() || !step->is_number_integer()) return false;
  const auto number = [](const nlohmann::json& object, const char* name) {
    const auto field = object.find(name);
    return field != object.end() && field->is_number() ? field->get<double>() : MetricsRecord::none;
  };
  record = {};
  record.step = step->get<std::int64_t>();
  record.loss = number(json, "loss");
  record.validation_loss = number(json, "validation_loss");
  record.gradient_norm = number(json, "gradient_norm");
  record.learning_rate = number(json, "learning_rate");
  if (const auto losses = json.find("losses"); losses != json.end() && losses->is_object())
    for (int i = 0; i < task_count; ++i) record.task_losses[i] = number(*losses, task_names[i]);
  return true;
}

}  // namespace metrics

/// The records of a metrics.jsonl, in their order, without a torn last line. Throws Error naming the line where another one is damaged.
inline std::vector<MetricsRecord> read_metrics(const std::string& path) {
  std::ifstream file(path);
  require(file.is_open(), "cannot open '", path, "': ", std::strerror(errno));
  std::vector<MetricsRecord> records;
  std::string line;
  for (std::int64_t number = 1; std::getline(file, line); ++number) {
    MetricsRecord record;
    const bool valid = metrics::parse(line, record);
    require(valid || file.eof(), "'", path, "', line ", number, ": expected a JSON object with a step, found '", line.substr(0, 80), "'");
    if (valid) records.push_back(record);
  }
  return records;
}

/// Appends to a file; each line is written whole, at once. What belongs to a step is to be written before the step is saved.
class MetricsLog {
 public:
  explicit MetricsLog(std::string path, const MetricsOptions& options = {}) : path_(std::move(path)), options_(options) {
    const std::int64_t kept = kept_bytes();
    file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    require(file_ >= 0, "cannot open '", path_, "' to write: ", std::strerror(errno));
    if (::ftruncate(file_, kept) == 0) return;
    const int cause = errno;
    ::close(file_);
    fail("cannot cut '", path_, "' after step ", options_.resumed_step, ": ", std::strerror(cause));
  }
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;
  ~MetricsLog() { ::close(file_); }

  void write(const StepReport& report) {
    Line line;
    line["step"] = report.step;
    line["samples"] = report.samples;
    line["tokens"] = report.tokens;
    line["loss"] = report.loss;
    for (int i = 0; i < task_count; ++i)
      if (report.tasks[i].rows > 0) line["losses"][task_names[i]] = report.tasks[i].loss;
    line["gradient_norm"] = report.gradient_norm;
    line["learning_rate"] = report.learning_rate;
    line["loss_scale"] = report.loss_scale;
    if (report.skipped) line["skipped"] = true;
    if (!report.note.empty()) line["note"] = report.note;
    if (options_.timing) line["seconds"] = report.seconds;
    append(line);
  }

  void write_validation(std::int64_t step, double loss) {
    Line line;
    line["step"] = step;
    line["validation_loss"] = loss;
    append(line);
  }

  /// Makes sure that what was written is on the disk: to be called before a checkpoint that is resumed from later.
  void sync() const { require(::fsync(file_) == 0, "cannot write '", path_, "' to the disk: ", std::strerror(errno)); }

  /// What was changed or happened between two steps, in words.
  void write_note(std::int64_t step, const std::string& note) {
    Line line;
    line["step"] = step;
    line["note"] = note;
    append(line);
  }

 private:
  using Line = nlohmann::ordered_json;  // NaN and infinity become null

  /// Bytes up to the last line of the resumed step, or of an earlier one: of a run that was rolled back, steps are there twice.
  std::int64_t kept_bytes() const {
    if (options_.resumed_step == 0) return 0;
    std::ifstream file(path_);
    require(file.is_open() || errno == ENOENT, "cannot read '", path_, "' to go on with it: ", std::strerror(errno));
    std::string line;
    std::int64_t kept = 0, end = 0, damaged = 0;  // damaged: number of the first such line
    MetricsRecord record;
    for (std::int64_t number = 1; std::getline(file, line) && !file.eof(); ++number) {  // eof: the last line has no end, a crash tore it
      end += static_cast<std::int64_t>(line.size()) + 1;
      if (!metrics::parse(line, record)) {
        if (damaged == 0) damaged = number;
      } else if (record.step <= options_.resumed_step) {
        require(damaged == 0, "'", path_, "', line ", damaged, " is damaged; mend or move the file, so that nothing of it is lost");
        kept = end;
      }
    }
    require(!file.bad(), "cannot read '", path_, "' to go on with it: ", std::strerror(errno));
    return kept;
  }

  void append(const Line& line) const {
    const std::string text = line.dump(-1, ' ', false, Line::error_handler_t::replace) + "\n";
    for (std::size_t done = 0; done < text.size();) {
      const ::ssize_t written = ::write(file_, text.data() + done, text.size() - done);
      if (written < 0 && errno == EINTR) continue;
      require(written > 0, "cannot write to '", path_, "': ", std::strerror(written < 0 ? errno : ENOSPC));
      done += static_cast<std::size_t>(written);
    }
  }

  std::string path_;
  MetricsOptions options_;
  int file_ = -1;
};

}  // namespace golem
