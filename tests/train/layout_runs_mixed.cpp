// Layouts in mixed precision.
// SPDX-License-Identifier: Apache-2.0
#include "train/layout_runs.hpp"

namespace layouts {

Outcome run_bf16(const Run& run) { return run_model<Model, bf16_mixed>(run); }
Outcome run_fp16(const Run& run) { return run_model<Model, fp16_mixed>(run); }
Outcome run_fp16_gradients(const Run& run) { return run_model<Model, low_gradients<fp16_mixed>>(run); }

}  // namespace layouts
