// Converts elements between floating types, rounding once.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "golem/core/error.hpp"
#include "golem/core/number.hpp"

namespace golem {

constexpr bool is_floating(DType type) { return type == DType::f64 || type == DType::f32 || type == DType::f16 || type == DType::bf16; }

namespace element_conversion {

template <class To, class From>
void convert(To* to, const std::byte* from, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, from + i * static_cast<std::int64_t>(sizeof(From)), sizeof(From));
    to[i] = static_cast<To>(static_cast<double>(value));
  }
}

template <class To>
void convert_to(void* to, const std::byte* from, DType type, std::int64_t count) {
  switch (type) {
    case DType::f64: return convert<To, double>(static_cast<To*>(to), from, count);
    case DType::f32: return convert<To, float>(static_cast<To*>(to), from, count);
    case DType::f16: return convert<To, float16>(static_cast<To*>(to), from, count);
    default: return convert<To, bfloat16>(static_cast<To*>(to), from, count);
  }
}

}  // namespace element_conversion

/// Writes `count` elements of floating types, which may be the same; `from` may be unaligned. Throws Error that begins with `where` for integers of
/// different types.
inline void convert_elements(void* to, DType wanted, const std::byte* from, DType type, std::int64_t count, std::string_view where) {
  if (wanted == type) {
    if (count > 0) std::memcpy(to, from, static_cast<std::size_t>(count * size_of(type)));
    return;
  }
  require(is_floating(wanted) && is_floating(type), where, ": ", name_of(type), " cannot be read as ", name_of(wanted));
  switch (wanted) {
    case DType::f64: return element_conversion::convert_to<double>(to, from, type, count);
    case DType::f32: return element_conversion::convert_to<float>(to, from, type, count);
    case DType::f16: return element_conversion::convert_to<float16>(to, from, type, count);
    default: return element_conversion::convert_to<bfloat16>(to, from, type, count);
  }
}

}  // namespace golem
