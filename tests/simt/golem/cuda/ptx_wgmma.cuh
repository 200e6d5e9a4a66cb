// The functions of golem's cuda/ptx_wgmma.cuh, on the host: products happen when they are waited for.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <source_location>

#include "golem/core/number.hpp"
#include "simt/async.hpp"
#include "simt/simt.hpp"

namespace golem::cuda::ptx {

struct SharedMatrix {
  std::uint64_t bits;
};

enum class Sum { begins, goes_on };

inline void begin_products(const std::source_location where = std::source_location::current()) { simt::begin_products(where); }
inline void commit_products(const std::source_location where = std::source_location::current()) { simt::commit_products(where); }
template <int Pending>
void wait_for_products(const std::source_location where = std::source_location::current()) {
  simt::wait_for_products(Pending, where);
}

template <int Columns>
void settle(float (&c)[Columns][4]) {
  simt::settle(&c[0][0]);
}

template <class T>
float widen_bits(std::uint16_t bits) {
  return static_cast<float>(T::from_bits(bits));
}

template <class T, int Columns>
void multiply_rows_async(float (&c)[Columns][4], SharedMatrix a, SharedMatrix b, Sum sum, const std::source_location where = std::source_location::current()) {
  static_assert(Columns == 8 || Columns == 16);
  simt::multiply_async({.c = &c[0][0], .a_matrix = a.bits, .b_matrix = b.bits, .columns = 8 * Columns, .goes_on = sum == Sum::goes_on, .widen = widen_bits<T>}, where);
}

template <class T, int Columns>
void multiply_columns_async(float (&c)[Columns][4], const std::uint32_t (&a)[4], SharedMatrix b, const std::source_location where = std::source_location::current()) {
  static_assert(Columns == 8 || Columns == 16);
  simt::multiply_async({.c = &c[0][0], .a = a, .b_matrix = b.bits, .columns = 8 * Columns, .b_by_columns = true, .goes_on = true, .widen = widen_bits<T>}, where);
}

}  // namespace golem::cuda::ptx
