// What a CUtensorMap of the host's driver holds: where a tensor lies, and the boxes that are copied from it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>

#include <cstdint>
#include <cstring>

namespace simt {

struct TensorMap {
  static constexpr std::uint32_t mark_of_all = 0x7e4502a9;
  std::uint32_t mark, rank, element_bytes, swizzle_bytes;  // swizzle_bytes: 0 where there is none
  const unsigned char* data;
  std::uint32_t extent[5], box[5];
  std::uint64_t step[5];  // bytes from an element to the next along each dim
};

inline TensorMap decoded(const CUtensorMap& map) {
  TensorMap tensor;
  static_assert(sizeof tensor <= sizeof map);
  std::memcpy(&tensor, &map, sizeof tensor);
  return tensor;
}

}  // namespace simt
