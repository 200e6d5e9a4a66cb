// The machine that the CUDA runtime on the host pretends to be: what it says of itself, and of its errors.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdio>
#include <utility>

#include "simt/runtime.hpp"

namespace simt {

Machine& machine() {
  static Machine all;
  return all;
}
thread_local cudaError_t last_error = cudaSuccess;

}  // namespace simt

using namespace simt;

extern "C" {

const char* cudaGetErrorName(cudaError_t status) {
  switch (status) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
    case cudaErrorNoKernelImageForDevice: return "cudaErrorNoKernelImageForDevice";
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    case cudaErrorLaunchOutOfResources: return "cudaErrorLaunchOutOfResources";
    default: return "cudaError";
  }
}
const char* cudaGetErrorString(cudaError_t) { return "the host's runtime was told to fail"; }
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = machine().devices;
  return machine().count_status;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = machine().driver;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = machine().runtime;
  return cudaSuccess;
}
static thread_local int device_in_use = 0;

cudaError_t cudaGetDevice(int* index) {
  *index = device_in_use;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int index) {
  if (fails("cudaSetDevice")) return machine().fail_status;
  if (index >= machine().devices) return cudaErrorInvalidDevice;
  device_in_use = index;
  return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  *can = device != peer;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = machine().major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = machine().minor; break;
    case cudaDevAttrMultiProcessorCount: *value = machine().multiprocessors; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (machine().major >= 9 ? 227 : machine().major == 8 ? 163 : 64) << 10; break;
    case cudaDevAttrL2CacheSize: *value = machine().cache_bytes; break;
    default: return cudaErrorInvalidValue;
  }
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "the host");
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  if (fails("cudaFuncGetAttributes")) return machine().fail_status;
  *attributes = {};
  attributes->ptxVersion = machine().written_for ? machine().written_for : 10 * machine().major + machine().minor;
  attributes->binaryVersion = 10 * machine().major + machine().minor;
  attributes->numRegs = machine().built_for_sm_90a ? 168 : 8;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  if (fails("cudaMemGetInfo")) return machine().fail_status;
  *total = machine().memory_bytes, *free = *total - bytes_in_use();
  return cudaSuccess;
}
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int index) {
  *pool = reinterpret_cast<cudaMemPool_t>(static_cast<std::intptr_t>(index + 1));
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAccess(cudaMemPool_t pool, const cudaMemAccessDesc* access, std::size_t count) {
  const auto index = static_cast<int>(reinterpret_cast<std::intptr_t>(pool)) - 1;
  locked([&] {
    for (std::size_t i = 0; i < count; ++i) machine().opened_pools.insert({index, access[i].location.id});
  });
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, std::size_t) { return cudaSuccess; }

}  // extern "C"
