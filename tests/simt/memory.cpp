// The memory of the CUDA runtime on the host: it begins as NaN, what is written behind it is found, and copies run in the order of their stream.
// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>

#include "simt/runtime.hpp"
#include "simt/simt.hpp"

namespace simt {
namespace {

constexpr std::size_t canary_bytes = 64;

// Both are used by one thread at a time: see locked().
std::map<void*, std::size_t> allocations;
std::size_t in_use = 0;

void release(void* memory) {
  const auto found = allocations.find(memory);
  if (found == allocations.end()) throw std::runtime_error("memory was released that was not allocated");
  const auto* end = static_cast<const unsigned char*>(memory) + found->second;
  for (std::size_t i = 0; i < canary_bytes; ++i)
    if (end[i] != 0xa5) throw std::runtime_error("device memory was written beyond the " + std::to_string(found->second) + " bytes of an allocation");
  std::free(memory);
  in_use -= found->second;
  allocations.erase(found);
}

}  // namespace

std::size_t bytes_in_use() {
  std::size_t bytes = 0;
  locked([&] { bytes = in_use; });
  return bytes;
}
bool is_allocated(const void* memory) {
  bool found = false;
  locked([&] {
    const auto after = allocations.upper_bound(const_cast<void*>(memory));
    if (after == allocations.begin()) return;
    const auto& [begin, bytes] = *std::prev(after);
    found = static_cast<const char*>(memory) < static_cast<const char*>(begin) + bytes;
  });
  return found;
}

}  // namespace simt

using namespace simt;

extern "C" {

cudaError_t cudaMallocAsync(void** memory, std::size_t bytes, cudaStream_t stream) {
  if (fails("cudaMallocAsync")) return machine().fail_status;
  if (is_captured(stream)) return cudaErrorStreamCaptureUnsupported;  // legal, and never what golem wants
  cudaError_t status = cudaErrorMemoryAllocation;
  locked([&] {
    if (in_use + bytes > machine().memory_bytes) return;
    *memory = std::aligned_alloc(256, (bytes + canary_bytes + 255) / 256 * 256);
    std::memset(*memory, 0xff, bytes);
    std::memset(static_cast<char*>(*memory) + bytes, 0xa5, canary_bytes);
    allocations[*memory] = bytes;
    in_use += bytes;
    ++counts().allocations;
    status = cudaSuccess;
  });
  return status;
}
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream) {
  return enqueue([memory] { release(memory); }, stream);
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
  *attributes = {};
  attributes->type = is_allocated(memory) ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** memory, std::size_t bytes) {
  if (fails("cudaMallocHost")) return machine().fail_status;
  *memory = std::malloc(bytes);
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  if (fails("cudaMemcpyAsync")) return machine().fail_status;
  return enqueue([=] { if (bytes) std::memcpy(to, from, bytes); }, stream);
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch, std::size_t bytes, std::size_t count, cudaMemcpyKind, cudaStream_t stream) {
  if (fails("cudaMemcpy2DAsync")) return machine().fail_status;
  if (bytes > to_pitch || bytes > from_pitch) return cudaErrorInvalidPitchValue;
  return enqueue(
      [=] {
        for (std::size_t i = 0; bytes > 0 && i < count; ++i) std::memcpy(static_cast<std::byte*>(to) + i * to_pitch, static_cast<const std::byte*>(from) + i * from_pitch, bytes);
      },
      stream);
}
cudaError_t cudaMemsetAsync(void* memory, int byte, std::size_t bytes, cudaStream_t stream) {
  if (fails("cudaMemsetAsync")) return machine().fail_status;
  return enqueue([=] { if (bytes) std::memset(memory, byte, bytes); }, stream);
}

}  // extern "C"
