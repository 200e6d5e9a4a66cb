// The training loop: steps, and the moments at which a program logs, validates, saves, stops or rolls back.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>
#include <cstdint>

#include "golem/core/error.hpp"
#include "golem/core/function_ref.hpp"
#include "golem/core/step_report.hpp"
#include "golem/train/trainer_core.hpp"

namespace golem {

/// What happens at a step of the loop; each may be empty. The loop knows no file: a program saves and loads in here.
struct LoopHooks {
  function_ref<void(const StepReport&)> on_step = {};
  function_ref<void()> validate = {};
  function_ref<void()> save = {};
  /// Loads the last checkpoint after an alarm, and moves the data past what raised it.
  function_ref<void(const StepReport&)> roll_back = {};
};

struct LoopOptions {
  std::int64_t last_step = 0;       // the loop ends after it
  std::int64_t validate_every = 0;  // steps; 0: never
  std::int64_t save_every = 0;      // steps; 0: at the end only
  const volatile std::sig_atomic_t* stop = nullptr;  // set by a signal handler: the loop saves and leaves after the step
  int roll_backs = 8;               // in a row without getting further; one more ends the run
  int skips = 64;                   // steps in a row that were skipped; one more ends the run. fp16's loss scale falls from 65536 to 1 in 17
};

enum class LoopEnd : std::uint8_t { finished, stopped };

/// Runs steps until options.last_step or a stop. Saves at the end, whichever of them it was: behind a roll-back too, which has moved the
/// data; but where a stop came before the first step there is nothing to save. Throws Error where rolling back or skipping does not help.
template <class TrainerType>
LoopEnd run_loop(TrainerType& trainer, BatchSource next, const LoopOptions& options, const LoopHooks& hooks) {
  const auto due = [&](std::int64_t every) { return every > 0 && trainer.steps() % every == 0; };
  const auto stopped = [&] { return options.stop && trainer.any(*options.stop != 0); };  // a signal reaches ranks at different steps: all stop at one
  if (trainer.steps() < options.last_step && stopped()) return LoopEnd::stopped;
  bool saved = true;
  std::int64_t furthest = trainer.steps();  // step without an alarm
  int in_vain = 0;                          // roll-backs since it was reached
  int skips = 0;                            // in a row
  while (trainer.steps() < options.last_step) {
    const StepReport report = trainer.step(next);
    saved = false;
    if (hooks.on_step) hooks.on_step(report);
    skips = report.skipped ? skips + 1 : 0;
    require(skips <= options.skips, "step ", report.step, " was skipped, as were the ", options.skips, " steps before it: ", report.note, ". Go on from an earlier checkpoint, or with a lower learning rate");
    if (report.alarm && trainer.config().sentinel.action == SentinelConfig::Action::roll_back && hooks.roll_back) {
      require(in_vain++ < options.roll_backs, "step ", report.step, " raised an alarm again, after ", options.roll_backs, " roll-backs since step ", furthest, ": ", report.note,
              ". Go on from an earlier checkpoint, or with a lower learning rate");
      hooks.roll_back(report);
    } else if (report.step > furthest) {
      furthest = report.step, in_vain = 0;
    }
    if (stopped()) {
      if (hooks.save) hooks.save();
      return LoopEnd::stopped;
    }
    if (trainer.steps() != report.step) continue;  // it was rolled back
    if (due(options.validate_every) && hooks.validate) hooks.validate();
    if (due(options.save_every) && hooks.save) {
      hooks.save();
      saved = true;
    }
  }
  if (!saved && hooks.save) hooks.save();
  return LoopEnd::finished;
}

}  // namespace golem
