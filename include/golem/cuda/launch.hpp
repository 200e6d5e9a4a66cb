// cuda::launch: the one way in which golem starts a kernel.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "golem/cuda/device.hpp"
#include "golem/cuda/runtime.hpp"

namespace golem::cuda {

/// How a kernel is started. Shared memory is what the kernel takes by dynamic_shared; there is no other.
struct Launch {
  std::string_view name;  // for errors
  std::int64_t blocks = 1;
  int threads = 256;
  std::size_t shared_bytes = 0;
  std::int64_t blocks_y = 1, blocks_z = 1;
};

/// Starts `kernel` on the device's stream; its arguments are converted to its parameters. Nothing to do where there are no
/// blocks. Throws Error where the kernel cannot be started.
template <class... Parameters>
void launch(Device& device, const Launch& how, void (*kernel)(Parameters...), const std::type_identity_t<Parameters>&... arguments) {
  constexpr std::int64_t most_blocks = 0x7fffffff, most_across = 65535;
  if (how.blocks <= 0 || how.blocks_y <= 0 || how.blocks_z <= 0) return;
  require(how.blocks <= most_blocks && how.blocks_y <= most_across && how.blocks_z <= most_across && how.threads >= 1 && how.threads <= 1024, "kernel ", how.name, " was asked to run ",
          how.blocks, " x ", how.blocks_y, " x ", how.blocks_z, " blocks of ", how.threads, " threads: cut the work in fewer pieces");
  require(how.shared_bytes <= device.shared_bytes(), "kernel ", how.name, " needs ", how.shared_bytes, " bytes of shared memory, and a block of ", std::string_view(device.name()), " has ",
          device.shared_bytes());
  constexpr std::size_t always_granted = 48 << 10;
  if (how.shared_bytes > always_granted)
    runtime::check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(how.shared_bytes)), "give kernel ", how.name, " ",
                   how.shared_bytes, " bytes of shared memory");
  void* pointers[sizeof...(Parameters) + 1]{const_cast<void*>(static_cast<const void*>(&arguments))..., nullptr};
  const dim3 grid(static_cast<unsigned>(how.blocks), static_cast<unsigned>(how.blocks_y), static_cast<unsigned>(how.blocks_z));
  const cudaError_t status = cudaLaunchKernel(kernel, grid, dim3(static_cast<unsigned>(how.threads)), pointers, how.shared_bytes, device.stream());
  if (status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction)
    fail("kernel ", how.name, " was not built for ", std::string_view(device.name()), ", compute capability ", device.compute_capability() / 10, ".", device.compute_capability() % 10,
         ": build for it, see CMAKE_CUDA_ARCHITECTURES");
  runtime::check(status, "start kernel ", how.name, " on ", how.blocks, " x ", how.blocks_y, " x ", how.blocks_z, " blocks of ", how.threads, " threads with ", how.shared_bytes,
                 " bytes of shared memory");
}

/// Blocks of `threads` that together have at least one thread for each of `count`, but no more than keep the GPU busy: the
/// kernel strides over the rest.
inline std::int64_t blocks_for(const Device& device, std::int64_t count, int threads) {
  constexpr std::int64_t waves = 16;
  return smaller(ceil_div(count, threads), waves * device.multiprocessors() * (2048 / threads));
}

}  // namespace golem::cuda
