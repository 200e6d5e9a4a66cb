// DoctorOptions: what the doctors of checkpoints are told.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/config/model.hpp"
#include "golem/core/function_ref.hpp"

namespace golem {

struct DoctorOptions {
  const ModelConfig* model = nullptr;                                         // that it should be; null: whatever its shapes say
  int heads = 0;                                                              // as in sat_model() and checkpoint_model()
  function_ref<bool(std::uint64_t done, std::uint64_t total)> on_progress{};  // bytes read; false stops, with an Error
};

}  // namespace golem
