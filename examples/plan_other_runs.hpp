// What plan prints of other runs: on more ranks, and on the same machines by other layouts.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "golem/config/better_layout.hpp"
#include "plan_training.hpp"

namespace examples {

// The same rows on each data rank, and ever more of these, up to 16,384 ranks; alike, and with stragglers: by default 2% jitter, and
// one rank in 500 slower.
inline nlohmann::json print_weak_scaling(golem::PlannedRun run) {
  nlohmann::json rows = nlohmann::json::array();
  const std::int64_t rows_each = run.training.batch.full / run.layout.dp;
  const int model_ranks = run.layout.tp * run.layout.pp,
            most = golem::larger(golem::smaller(16384 / model_ranks, 128 * run.layout.dp), run.layout.dp);
  golem::Stragglers stragglers = run.stragglers;
  if (!stragglers.any()) stragglers.slow_ranks = 0.002, stragglers.jitter = 0.02;
  double first = 0;
  std::printf("\nweak scaling: ranks     rows   seconds   tokens/s     MFU   with stragglers     MFU   of the first\n");
  for (int dp = run.layout.dp;; dp = golem::smaller(2 * dp, most)) {
    run.layout.dp = dp;
    run.training.batch.full = rows_each * dp;
    run.stragglers = {};
    const golem::StepOnPaper calm = golem::simulate(run);
    run.stragglers = stragglers;
    const golem::StepOnPaper real = golem::simulate(run);
    if (first == 0) first = real.mfu;
    std::printf("%19d %8lld %9.2f %10.0f %6.1f%% %15.2f s %6.1f%% %13.1f%%\n", run.layout.ranks(), static_cast<long long>(run.training.batch.full),
                calm.seconds, calm.tokens_per_second, 100 * calm.mfu, real.seconds, 100 * real.mfu, 100 * real.mfu / first);
    rows.push_back({{"ranks", run.layout.ranks()},
                    {"rows", run.training.batch.full},
                    {"seconds", calm.seconds},
                    {"mfu", calm.mfu},
                    {"seconds_with_stragglers", real.seconds},
                    {"mfu_with_stragglers", real.mfu}});
    if (dp == most) return rows;
  }
}

inline nlohmann::json print_better(const golem::PlannedRun& run, const golem::StepOnPaper& step) {
  struct Search {
    const char* what;
    golem::Freedom freedom;
  };
  nlohmann::json found = nlohmann::json::object();
  std::printf("\nfaster on the same machines\n");
  for (const Search& search :
       {Search{"degrees alone", {false, false}}, Search{"schedule too", {true, false}}, Search{"recomputation too", {true, true}}}) {
    const auto choices = golem::better_layouts(run, search.freedom);
    if (choices.empty()) {
      std::printf("  %-18s nothing fits\n", search.what);
      continue;
    }
    const golem::LayoutChoice& best = choices[0];
    std::printf("  %-18s %.2f s (%+.1f%%), MFU %.1f%%: %s\n", search.what, best.step.seconds, 100 * (best.step.seconds / step.seconds - 1),
                100 * best.step.mfu, words(best.run).c_str());
    found[search.what] = {{"layout", json_of(best.run)}, {"seconds", best.step.seconds}, {"mfu", best.step.mfu}};
  }
  return found;
}

}  // namespace examples
