// Finds NaN and infinity in the bytes of a tensor.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "golem/core/number.hpp"

namespace golem {

/// Index of the first element whose exponent bits, `exponent`, are all set, or -1. The bytes may be unaligned.
template <class Bits>
std::int64_t first_with_exponent(const std::byte* data, std::int64_t count, std::type_identity_t<Bits> exponent) {
  const auto found = [&](std::int64_t i) {
    Bits bits;
    std::memcpy(&bits, data + i * static_cast<std::int64_t>(sizeof bits), sizeof bits);
    return (bits & exponent) == exponent;
  };
  for (std::int64_t start = 0; start < count; start += 4096) {
    const std::int64_t end = std::min<std::int64_t>(start + 4096, count);
    Bits any = 0;  // no early exit inside a block: so the compiler makes vectors of it
    for (std::int64_t i = start; i < end; ++i) any |= static_cast<Bits>(found(i));
    if (any == 0) continue;
    for (std::int64_t i = start; i < end; ++i)
      if (found(i)) return i;
  }
  return -1;
}

/// Index of the first NaN or infinity of a tensor of `bytes` bytes, or -1; whole numbers have none.
inline std::int64_t first_not_finite(DType type, const void* data, std::uint64_t bytes) {
  auto* const from = static_cast<const std::byte*>(data);
  const auto count = static_cast<std::int64_t>(bytes) / size_of(type);
  switch (type) {
    case DType::f64:
      return first_with_exponent<std::uint64_t>(from, count, 0x7ff0000000000000u);
    case DType::f32:
      return first_with_exponent<std::uint32_t>(from, count, 0x7f800000u);
    case DType::f16:
      return first_with_exponent<std::uint16_t>(from, count, 0x7c00u);
    case DType::bf16:
      return first_with_exponent<std::uint16_t>(from, count, 0x7f80u);
    case DType::i64:
    case DType::i32:
    case DType::i8:
    case DType::u8:
      return -1;
  }
  return -1;
}

}  // namespace golem
