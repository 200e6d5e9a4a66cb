// cuda::launch: the one way in which golem starts a kernel.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <type_traits>

#include "golem/cuda/device.hpp"
#include "golem/cuda/runtime.hpp"

namespace golem::cuda {

inline constexpr std::int64_t most_blocks_across = 65535;  // along y, and along z

/// How a kernel is started. Shared memory is what the kernel takes by dynamic_shared; there is no other.
struct Launch {
  std::string_view name;  // for errors; lives as long as the device
  bool early = false;     // it may be started while the kernel before it ends (GPUs of 9.0 and later): its first statement is ptx::begin_kernel()
  std::int64_t blocks = 1;
  int threads = 256;
  std::size_t shared_bytes = 0;
  std::int64_t blocks_y = 1, blocks_z = 1;
  int architecture = 0;  // the least that the kernel's text must have been compiled for: 80 where it copies asynchronously or multiplies by matrix instructions
};

#if defined(__CUDA_ARCH_LIST__)
/// The architectures that nvcc compiles this file for, 800 for 8.0; other files of a program may be compiled for others.
constexpr int built_architectures[]{__CUDA_ARCH_LIST__};
#else
constexpr int built_architectures[]{0};  // another compiler, which makes no kernels
#endif

/// "8.0 and 9.0"; "" where it is not known.
inline std::string list_of_architectures(const int* first, const int* last) {
  std::string out;
  for (const int* one = first; one != last && *one > 0; ++one) out += sentence(one == first ? "" : one + 1 == last ? " and " : ", ", *one / 100, '.', *one % 100 / 10);
  return out;
}

/// What to do where a program has no kernels, or lesser ones, for a GPU of `capability`, 80 for 8.0. Of 9.0 the matrix instructions are in 9.0a alone.
inline std::string how_to_build_for(int capability) {
  const std::string name = sentence(capability, capability == 90 ? "a" : "");
  return sentence("build for it too, by nvcc -gencode arch=compute_", name, ",code=sm_", name, " or CMAKE_CUDA_ARCHITECTURES");
}

/// The numbers among a kernel's arguments, which are its shape.
struct LaunchShape {
  std::string text = {};

  template <class T>
  void add(const T& argument) {
    if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) text += sentence(text.empty() ? "" : ", ", argument);
    else if constexpr (requires { argument.rows + argument.columns; }) text += sentence(text.empty() ? "" : ", ", argument.rows, " x ", argument.columns);
    else if constexpr (requires { argument.tokens + argument.heads; }) text += sentence(text.empty() ? "" : ", ", argument.tokens, " tokens of ", argument.heads, " heads");
  }
};

/// Says why a kernel could not be started: `status` is what CUDA answered.
[[noreturn]] inline void fail_launch(const Device& device, const StartedKernel& kernel, const std::string& shape, cudaError_t status, const int* built, const int* built_end) {
  const std::string architectures = list_of_architectures(built, built_end);
  if (status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction)
    fail("kernel ", kernel.name, " was not built for ", std::string_view(device.name()), ", compute capability ", device.compute_capability() / 10, ".", device.compute_capability() % 10,
         architectures.empty() ? "" : ", but for ", architectures, ": ", how_to_build_for(device.compute_capability()));
  if (runtime::broke_before(status)) runtime::check(status, "start kernel ", kernel.name, " behind others, ", std::string_view(device.last_kernel()));
  fail("CUDA could not start ", describe(kernel), shape.empty() ? "" : ", shape ", shape, ": ", runtime::words_of(status));
}

/// How a kernel is started, as CUDA takes it.
struct LaunchConfig {
  cudaLaunchConfig_t config{};
  cudaLaunchAttribute attribute{};

  LaunchConfig(const LaunchConfig&) = delete;  // it points into itself
  LaunchConfig& operator=(const LaunchConfig&) = delete;
  LaunchConfig(const Launch& how, cudaStream_t stream) {
    config.gridDim = {static_cast<unsigned>(how.blocks), static_cast<unsigned>(how.blocks_y), static_cast<unsigned>(how.blocks_z)};
    config.blockDim = {static_cast<unsigned>(how.threads), 1, 1};
    config.dynamicSmemBytes = how.shared_bytes, config.stream = stream;
  }
  /// Programmatic dependent launch (CUDA Programming Guide, section of that name).
  void start_early() {
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization, attribute.val.programmaticStreamSerializationAllowed = 1;
    config.attrs = &attribute, config.numAttrs = 1;
  }
};

/// Starts `kernel` on the device's stream; its arguments are converted to its parameters. Nothing to do where there are no
/// blocks. Throws Error where the kernel cannot be started.
template <class... Parameters>
void launch(Device& device, const Launch& how, void (*kernel)(Parameters...), const std::type_identity_t<Parameters>&... arguments) {
  constexpr std::int64_t most_blocks = 0x7fffffff;
  if (how.blocks <= 0 || how.blocks_y <= 0 || how.blocks_z <= 0) return;
  require(how.blocks <= most_blocks && how.blocks_y <= most_blocks_across && how.blocks_z <= most_blocks_across && how.threads >= 1 && how.threads <= 1024, "kernel ", how.name, " was asked to run ",
          how.blocks, " x ", how.blocks_y, " x ", how.blocks_z, " blocks of ", how.threads, " threads: cut the work in fewer pieces");
  require(how.shared_bytes <= device.shared_bytes(), "kernel ", how.name, " needs ", how.shared_bytes, " bytes of shared memory, and a block of ", std::string_view(device.name()), " has ",
          device.shared_bytes());
  const bool may_be_early = how.early && device.starts_early();
  const runtime::KernelCode code = how.architecture > 0 || may_be_early ? device.code_of(reinterpret_cast<const void*>(kernel)) : runtime::KernelCode{};
  if (how.architecture > 0 && code.written_for > 0)  // else the driver would translate what was compiled for an older GPU, with traps in place of what that one lacks
    require(code.written_for >= how.architecture, "kernel ", how.name, " was compiled for compute capability ", code.written_for / 10, ".", code.written_for % 10, ", without instructions of ",
            how.architecture / 10, ".", how.architecture % 10, " that it runs by on ", std::string_view(device.name()), ": ", how_to_build_for(device.compute_capability()));
  constexpr std::size_t always_granted = 48 << 10;
  cudaError_t status = code.status;
  if (status == cudaSuccess && how.shared_bytes > always_granted)  // a kernel has one limit, whichever Device of the GPU starts it: so it is the GPU's
    status = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(device.shared_bytes()));
  if (status == cudaSuccess) {
    LaunchConfig config(how, device.stream());
    if (may_be_early && code.written_for >= 90) config.start_early();  // code for older GPUs does not wait
    status = cudaLaunchKernelEx(&config.config, kernel, arguments...);
  }
  const StartedKernel started{how.name, how.blocks, how.blocks_y, how.blocks_z, how.threads, how.shared_bytes};
  if (status != cudaSuccess) [[unlikely]] {
    LaunchShape shape;
    (shape.add(arguments), ...);
    fail_launch(device, started, shape.text, status, std::begin(built_architectures), std::end(built_architectures));
  }
  device.note(started);
}

/// Blocks of `threads` that together have at least one thread for each of `count`, but no more than keep the GPU busy: the
/// kernel strides over the rest.
inline std::int64_t blocks_for(const Device& device, std::int64_t count, int threads) {
  constexpr std::int64_t waves = 16;
  return smaller(ceil_div(count, threads), waves * device.multiprocessors() * (2048 / threads));
}

}  // namespace golem::cuda
