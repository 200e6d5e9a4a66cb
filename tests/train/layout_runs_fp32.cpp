// Layouts in single precision.
// SPDX-License-Identifier: Apache-2.0
#include "train/layout_runs.hpp"

namespace layouts {

Outcome run_fp32(const Run& run) { return run_model<Model, fp32>(run); }

}  // namespace layouts
