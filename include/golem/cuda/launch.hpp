// cuda::launch: the one way in which golem starts a kernel.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
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

/// What an argument of a kernel tells of the kernel's shape.
struct ShapeWord {
  enum class Kind : std::uint8_t { nothing, number, rows_and_columns, tokens_of_heads } kind = Kind::nothing;
  std::int64_t first = 0, second = 0;

  template <class T>
  static ShapeWord of(const T& argument) {
    if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) return {Kind::number, static_cast<std::int64_t>(argument)};
    else if constexpr (requires { argument.rows + argument.columns; }) return {Kind::rows_and_columns, argument.rows, argument.columns};
    else if constexpr (requires { argument.tokens + argument.heads; }) return {Kind::tokens_of_heads, argument.tokens, argument.heads};
    else return {};
  }
  std::string text() const {
    if (kind == Kind::number) return sentence(first);
    return kind == Kind::rows_and_columns ? sentence(first, " x ", second) : sentence(first, " tokens of ", second, " heads");
  }
};

inline StartedKernel started(const Launch& how) { return {how.name, how.blocks, how.blocks_y, how.blocks_z, how.threads, how.shared_bytes}; }

/// Says why a kernel could not be started: `status` is what CUDA answered, `words` are of its arguments.
[[noreturn, gnu::cold, gnu::noinline]] inline void fail_launch(const Device& device, const Launch& how, std::initializer_list<ShapeWord> words, cudaError_t status, const int* built, const int* built_end) {
  const std::string architectures = list_of_architectures(built, built_end);
  if (status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction)
    fail("kernel ", how.name, " was not built for ", std::string_view(device.name()), ", compute capability ", device.compute_capability() / 10, ".", device.compute_capability() % 10,
         architectures.empty() ? "" : ", but for ", architectures, ": ", how_to_build_for(device.compute_capability()));
  if (runtime::broke_before(status)) runtime::check(status, "start kernel ", how.name, " behind others, ", std::string_view(device.last_kernel()));
  std::string shape;
  for (const ShapeWord& word : words)
    if (word.kind != ShapeWord::Kind::nothing) shape += (shape.empty() ? ", shape " : ", ") + word.text();
  fail("CUDA could not start ", describe(started(how)), shape, ": ", runtime::words_of(status));
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

/// Proves that the device can take the launch, and completes its configuration; what CUDA answered where it cannot. Throws Error where it is golem that knows why.
inline cudaError_t prepare(LaunchConfig& config, Device& device, const Launch& how, const void* kernel) {
  constexpr std::int64_t most_blocks = 0x7fffffff;
  require(how.blocks <= most_blocks && how.blocks_y <= most_blocks_across && how.blocks_z <= most_blocks_across && how.threads >= 1 && how.threads <= 1024, "kernel ", how.name, " was asked to run ",
          how.blocks, " x ", how.blocks_y, " x ", how.blocks_z, " blocks of ", how.threads, " threads: cut the work in fewer pieces");
  require(how.shared_bytes <= device.shared_bytes(), "kernel ", how.name, " needs ", how.shared_bytes, " bytes of shared memory, and a block of ", std::string_view(device.name()), " has ",
          device.shared_bytes());
  const bool may_be_early = how.early && device.starts_early();
  const runtime::KernelCode code = how.architecture > 0 || may_be_early ? device.code_of(kernel) : runtime::KernelCode{};
  if (code.status != cudaSuccess) return code.status;
  if (how.architecture > 0 && code.written_for > 0)  // else the driver would translate what was compiled for an older GPU, with traps in place of what that one lacks
    require(code.written_for >= how.architecture, "kernel ", how.name, " was compiled for compute capability ", code.written_for / 10, ".", code.written_for % 10, ", without instructions of ",
            how.architecture / 10, ".", how.architecture % 10, " that it runs by on ", std::string_view(device.name()), ": ", how_to_build_for(device.compute_capability()));
  if (may_be_early && code.written_for >= 90) config.start_early();  // code for older GPUs does not wait
  constexpr std::size_t always_granted = 48 << 10;
  if (how.shared_bytes <= always_granted) return cudaSuccess;
  // A kernel has one limit, whichever Device of the GPU starts it: so it is the GPU's.
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(device.shared_bytes()));
}

/// Starts `kernel` on the device's stream; its arguments are converted to its parameters. Nothing to do where there are no
/// blocks. Throws Error where the kernel cannot be started.
template <class... Parameters>
void launch(Device& device, const Launch& how, void (*kernel)(Parameters...), const std::type_identity_t<Parameters>&... arguments) {
  if (how.blocks <= 0 || how.blocks_y <= 0 || how.blocks_z <= 0) return;
  LaunchConfig config(how, device.stream());
  cudaError_t status = prepare(config, device, how, reinterpret_cast<const void*>(kernel));
  if (status == cudaSuccess) status = cudaLaunchKernelEx(&config.config, kernel, arguments...);
  if (status != cudaSuccess) [[unlikely]] fail_launch(device, how, {ShapeWord::of(arguments)...}, status, std::begin(built_architectures), std::end(built_architectures));
  device.note(started(how));
}

/// Blocks of `threads` that together have at least one thread for each of `count`, but no more than keep the GPU busy: the
/// kernel strides over the rest.
inline std::int64_t blocks_for(const Device& device, std::int64_t count, int threads) {
  constexpr std::int64_t waves = 16;
  return smaller(ceil_div(count, threads), waves * device.multiprocessors() * (2048 / threads));
}

}  // namespace golem::cuda
