// Traces of training steps, simulated or measured, as JSON that Chrome (chrome://tracing) and Perfetto show.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "golem/config/pipeline_run.hpp"
#include "golem/report/whole_file.hpp"

namespace golem {

constexpr const char* name_of(PipelineAction::Work work) {
  constexpr const char* names[]{"forward", "backward", "backward_input", "backward_weight"};
  return names[static_cast<int>(work)];
}

/// Spans on tracks. A process is a group of tracks, a data-parallel rank say; a track one rank of it.
class Trace {
 public:
  void name_process(int process, const std::string& name) { name_it("process_name", process, 0, name); }
  void name_track(int process, int track, const std::string& name) { name_it("thread_name", process, track, name); }

  /// Something that took from `start` to `end`, in seconds; `arguments` is shown where it is clicked.
  void add(int process, int track, const std::string& name, const std::string& category, double start, double end,
           nlohmann::json arguments = nlohmann::json::object()) {
    events_.push_back({{"name", name},
                       {"cat", category},
                       {"ph", "X"},
                       {"ts", start * 1e6},
                       {"dur", (end - start) * 1e6},
                       {"pid", process},
                       {"tid", track},
                       {"args", std::move(arguments)}});
  }

  /// All stages of a pipeline, a track each; seconds are counted from `origin` on.
  void add(int process, const PipelineRun& run, double origin = 0) {
    for (std::size_t stage = 0; stage < run.stages.size(); ++stage) {
      const int track = static_cast<int>(stage);
      name_track(process, track, "stage " + std::to_string(stage));
      for (const TimedAction& timed : run.stages[stage]) {
        const char* work = name_of(timed.action.work);
        add(process, track, work + std::string(" ") + std::to_string(timed.action.micro_batch + 1), work, origin + timed.start, origin + timed.end,
            {{"micro_batch", timed.action.micro_batch}, {"chunk", timed.action.chunk}});
      }
    }
  }

  std::string json() const { return nlohmann::json{{"displayTimeUnit", "ms"}, {"traceEvents", events_}}.dump(); }

  /// Throws Error where the file cannot be written.
  void write(const std::string& path) const { write_whole(path, "trace", json()); }

 private:
  void name_it(const char* what, int process, int track, const std::string& name) {
    events_.push_back({{"name", what}, {"ph", "M"}, {"pid", process}, {"tid", track}, {"args", {{"name", name}}}});
  }

  nlohmann::json events_ = nlohmann::json::array();
};

}  // namespace golem
