// Descriptions of tensors that the copy engine of sm_90 takes boxes of, made by the driver.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>

#include <cstdint>
#include <type_traits>

#include "golem/core/error.hpp"
#include "golem/core/number.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/runtime.hpp"

namespace golem::cuda {

/// Describes `tensor`, whose elements lie row by row, last dim fastest, in boxes of `box` elements along each dim that lie with 128-byte swizzle:
/// the box's last dim is 128 bytes. Kernels take the description as a __grid_constant__ parameter, and name its dims from
/// the last to the first. Throws Error where the driver has no such function or refuses.
template <class T>
CUtensorMap describe_tensor(View<const T, 4> tensor, const int (&box)[4]) {
  static_assert(std::is_same_v<T, float16> || std::is_same_v<T, bfloat16>, "golem: boxes are of 16-bit elements");
  static const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(runtime::driver_function("cuTensorMapEncodeTiled", 12000));
  cuuint64_t extents[4], steps[3], step = sizeof(T);
  cuuint32_t boxes[4], ones[4]{1, 1, 1, 1};
  for (int i = 0; i < 4; ++i) {  // the driver's dims run from the fastest
    extents[i] = static_cast<cuuint64_t>(tensor.extent(3 - i));
    boxes[i] = static_cast<cuuint32_t>(box[3 - i]);
    step *= extents[i];
    if (i < 3) steps[i] = step;
  }
  CUtensorMap map;
  const CUresult status = encode(&map, std::is_same_v<T, float16> ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<T*>(tensor.data), extents, steps, boxes,
                                 ones, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  require(status == CUDA_SUCCESS, "CUDA could not describe a tensor of shape ", shape_of(tensor), " for copies of ", box[0], " x ", box[1], " x ", box[2], " x ", box[3],
          " elements: cuTensorMapEncodeTiled returned ", static_cast<int>(status));
  return map;
}

}  // namespace golem::cuda
