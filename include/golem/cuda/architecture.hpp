// The architectures that kernels of matrix instructions are written for, as the argument that chooses among them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "golem/core/error.hpp"
#include "golem/cuda/device.hpp"
#include "golem/cuda/runtime.hpp"

namespace golem::cuda {

/// mma.sync and cp.async: every GPU since compute capability 8.0.
struct sm_80 {};

/// wgmma, TMA and registers that warpgroups trade: compute capability 9.0 alone, in programs built for sm_90a.
struct sm_90a {
  /// Registers of a thread when a kernel of three warpgroups starts: all that a multiprocessor has.
  static constexpr int start_registers = 65536 / 384 / 8 * 8;
};

/// Whether a kernel of sm_90a, of three warpgroups, is to run on this device. Where the program was not built for it, kernels are empty
/// and have few registers: that is an Error if wgmma was asked for by name.
template <class... Parameters>
bool takes_sm_90a(Device& device, std::string_view name, void (*kernel)(Parameters...)) {
  if (device.attention() == AttentionPath::mma || device.compute_capability() != 90) return false;
  const runtime::KernelCode code = device.code_of(reinterpret_cast<const void*>(kernel));
  runtime::check(code.status, "look at kernel ", name);
  if (code.machine == 90 && code.registers == sm_90a::start_registers) return true;
  require(device.attention() == AttentionPath::best, "kernel ", name, " was asked to run by wgmma on ", std::string_view(device.name()),
          ", and this program was not built for sm_90a: build it with -gencode arch=compute_90a,code=sm_90a, or leave Device::Options::attention at AttentionPath::best");
  return false;
}

}  // namespace golem::cuda
