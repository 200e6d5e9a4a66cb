// Layouts in double precision: rounding hides no mistake.
// SPDX-License-Identifier: Apache-2.0
#include "train/layout_runs.hpp"

namespace layouts {

Outcome run_fp64(const Run& run) { return run_model<Model, fp64>(run); }
Outcome run_fp64_dropping(const Run& run) { return run_model<Dropping, fp64>(run); }

}  // namespace layouts
