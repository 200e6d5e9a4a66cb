// The main function of the CUDA benchmarks: says what chip it is, runs them, and prints a row of a table for each; the raw figures go to --benchmark_out.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <benchmark/benchmark.h>

#include <cstdio>
#include <string>
#include <vector>

#include "golem/config/model.hpp"
#include "golem/cuda/device.hpp"

namespace bench {

/// What a row is about, in the raw figures: bench/peers/ runs the same.
inline void show_shapes(benchmark::State& state, const golem::ModelConfig& c, double flops) {
  state.counters["flops"] = flops;
  state.counters["layers"] = c.layers, state.counters["hidden"] = c.hidden, state.counters["heads"] = c.heads, state.counters["ffn"] = c.ffn;
  state.counters["vocab"] = c.vocab, state.counters["context"] = c.context;
}

/// Why a run has no figures, or nothing. Releases of the library name this differently.
template <class Run>
std::string failure_of(const Run& run) {
  if constexpr (requires { run.error_occurred; }) return run.error_occurred ? run.error_message : std::string();
  else return static_cast<int>(run.skipped) != 0 ? run.skip_message : std::string();
}

/// Rows of a Markdown table: case, milliseconds, rate, limit, fraction of it, and what else there is to say.
class TableReporter : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override {
    std::puts("| case | ms | rate | limit | of limit | |\n|---|---|---|---|---|---|");
    return true;
  }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      const std::string name = run.run_name.function_name + (run.run_name.args.empty() ? "" : "/") + run.run_name.args, failure = failure_of(run);
      if (!failure.empty()) {
        failed = true;
        std::printf("| `%s` | | | | | failed: %s |\n", name.c_str(), failure.c_str());
        continue;
      }
      std::string text;
      for (const char* unit : {"GB/s", "TFLOP/s"})
        if (run.counters.count(unit)) text = shown(run, unit) + " " + unit;
      std::printf("| `%s` | %s | %s | %s | %s | %s |\n", name.c_str(), shown(run, "ms").c_str(), text.c_str(), shown(run, "limit").c_str(), shown(run, "of_limit").c_str(), run.report_label.c_str());
    }
    std::fflush(stdout);
  }

  bool failed = false;

 private:
  static std::string shown(const Run& run, const char* counter) {
    const auto found = run.counters.find(counter);
    if (found == run.counters.end()) return "";
    char text[32];
    std::snprintf(text, sizeof text, "%.*f", found->second.value < 10 ? 3 : 0, found->second.value);
    return text;
  }
};

/// 0; 1 where a row failed; 2 where there is no GPU, or the arguments are wrong.
inline int run(int argc, char** argv) {
  try {
    if (golem::cuda::runtime::device_count() == 0) {
      std::fputs("This machine shows no GPU, and the CUDA benchmarks need one.\n", stderr);
      return 2;
    }
    benchmark::AddCustomContext("chip", golem::cuda::Device().name());
  } catch (const golem::Error& error) {
    std::fprintf(stderr, "%s.\n", error.what());
    return 2;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  TableReporter table;
  const bool none = benchmark::RunSpecifiedBenchmarks(&table) == 0;
  return table.failed || none ? 1 : 0;
}

}  // namespace bench
