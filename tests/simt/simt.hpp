// CUDA's device language for a host compiler: included first, it lets g++ compile golem's .cuh files as they are.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>  // the toolkit's own headers first: what they define is not defined again
#include <cublasLt.h>

#include <cstddef>
#include <source_location>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "simt/block.hpp"

#define __launch_bounds__(...)
#define __CUDA_ARCH_LIST__ 800, 900  // what tests build for

extern uint3 threadIdx, blockIdx;  // of the thread that runs
extern dim3 blockDim, gridDim;

inline void __syncthreads(const std::source_location where = std::source_location::current()) { simt::meet(0, 0, false, where); }
inline int __syncthreads_or(int vote, const std::source_location where = std::source_location::current()) { return simt::meet(0, 0, vote != 0, where); }
inline void __syncwarp(unsigned mask = 0xffffffffu, const std::source_location where = std::source_location::current()) {
  simt::act_together("__syncwarp", mask, nullptr, [](void* const (&)[32], unsigned) {}, where);
}

namespace simt {

/// "void golem::cuda::rotate_kernel<float>(...)", where the program exports its symbols.
std::string name_of(const void* function);

/// Puts a call at the end of a stream.
cudaError_t enqueue(Call call, cudaStream_t stream);

}  // namespace simt

/// The toolkit has this template under nvcc only.
template <class... Parameters>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), const std::type_identity_t<Parameters>&... arguments) {
  simt::Call call{simt::name_of(reinterpret_cast<const void*>(kernel)), config->gridDim, config->blockDim, config->dynamicSmemBytes, {}, reinterpret_cast<const void*>(kernel), config->numAttrs > 0};
  call.thread = [kernel, values = std::tuple<Parameters...>(arguments...)] { std::apply(kernel, values); };
  return simt::enqueue(std::move(call), config->stream);
}
