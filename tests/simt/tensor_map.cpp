// The driver's function that describes a tensor for copies of boxes, with the rules that its documentation states; and the way to it.
// SPDX-License-Identifier: Apache-2.0
#include "simt/tensor_map.hpp"

#include <cuda_runtime_api.h>

#include <string_view>

#include "simt/runtime.hpp"

namespace simt {
namespace {

CUresult encode_tiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address, const cuuint64_t* extents, const cuuint64_t* strides, const cuuint32_t* box,
                      const cuuint32_t* element_strides, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill fill) {
  if (machine().major < 9) return CUDA_ERROR_NOT_SUPPORTED;
  const std::uint32_t bytes = type == CU_TENSOR_MAP_DATA_TYPE_FLOAT16 || type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 ? 2 : 0;  // the types that golem copies
  const std::uint32_t span = swizzle == CU_TENSOR_MAP_SWIZZLE_32B ? 32 : swizzle == CU_TENSOR_MAP_SWIZZLE_64B ? 64 : swizzle == CU_TENSOR_MAP_SWIZZLE_128B ? 128 : 0;
  if (bytes == 0 || rank < 1 || rank > 5 || interleave != CU_TENSOR_MAP_INTERLEAVE_NONE || fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE || (span == 0 && swizzle != CU_TENSOR_MAP_SWIZZLE_NONE))
    return CUDA_ERROR_INVALID_VALUE;
  if (reinterpret_cast<std::uintptr_t>(map) % 64 || reinterpret_cast<std::uintptr_t>(address) % 16) return CUDA_ERROR_INVALID_VALUE;
  TensorMap tensor{TensorMap::mark_of_all, rank, bytes, span, static_cast<const unsigned char*>(address), {}, {}, {}};
  for (cuuint32_t i = 0; i < 5; ++i) {
    tensor.extent[i] = i < rank ? static_cast<std::uint32_t>(extents[i]) : 1;
    tensor.box[i] = i < rank ? box[i] : 1;
    tensor.step[i] = i == 0 ? bytes : i < rank ? strides[i - 1] : 0;
    if (i >= rank) continue;
    if (extents[i] == 0 || extents[i] > std::uint64_t{1} << 32 || box[i] == 0 || box[i] > 256 || element_strides[i] != 1) return CUDA_ERROR_INVALID_VALUE;
    if (i > 0 && (strides[i - 1] % 16 || strides[i - 1] >= std::uint64_t{1} << 40)) return CUDA_ERROR_INVALID_VALUE;
  }
  if (box[0] * bytes % 16 || (span && box[0] * bytes > span)) return CUDA_ERROR_INVALID_VALUE;
  *map = {};
  std::memcpy(map, &tensor, sizeof tensor);
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace simt

extern "C" {

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned, unsigned long long, cudaDriverEntryPointQueryResult* result) {
  if (simt::fails("cudaGetDriverEntryPointByVersion")) return simt::machine().fail_status;
  const bool known = std::string_view(symbol) == "cuTensorMapEncodeTiled";
  *function = known ? reinterpret_cast<void*>(&simt::encode_tiled) : nullptr;
  if (result) *result = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

}  // extern "C"
