// What runs beside the threads of a block on sm_90: boxes of tensors on their way to shared memory, barriers that count bytes, products of warpgroups.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <source_location>

namespace simt {

/// Bytes from the start of the block's window of shared memory, which is aligned to no more than a kernel may rely on.
unsigned shared_address(const void* shared);

void init_phases(void* barrier, int arrivals);
/// One arrival, and so many more bytes to come.
void arrive(void* barrier, std::int64_t bytes);
void wait_for_phase(void* barrier, int parity, const std::source_location& where);

/// Copies and products see shared memory as it is now; what is written later they do not, and say so.
void show_shared_writes();

/// A box begins to arrive: until then its place is poison.
void copy_box(void* to, const CUtensorMap& map, const int (&coordinates)[4], void* barrier);

/// Registers of the calling thread's warpgroup.
void set_registers(int registers, const std::source_location& where);

/// c (64, columns) = or += a (64, 16) b (16, columns), for the calling lane's warp. `a` is null where the registers have it.
struct Product {
  float* c = nullptr;
  const std::uint32_t* a = nullptr;
  std::uint64_t a_matrix = 0, b_matrix = 0;
  int columns = 0;
  bool b_by_columns = false, goes_on = false;
  float (*widen)(std::uint16_t) = nullptr;
};
void begin_products(const std::source_location& where);
void multiply_async(Product product, const std::source_location& where);
void commit_products(const std::source_location& where);
void wait_for_products(int pending_groups, const std::source_location& where);
/// Complains where products that are under way have these sums.
void settle(const float* c);

/// Called by the scheduler of a block.
namespace async {

void begin_block(unsigned char* shared, std::size_t bytes, std::size_t threads);
/// Perhaps lets a box arrive, surely if nothing else can move; whether it did.
bool advance(std::mt19937_64& random, bool surely);
void end_thread(int thread);
void end_block();

// Of shared memory, for products.

/// Whether any of these bytes are on their way.
bool is_arriving(unsigned address, std::size_t bytes);
/// Complains where any of these bytes are on their way, or were written and not shown.
void check_readable(unsigned address, std::size_t bytes, const char* who);
const unsigned char* at(unsigned address);

void begin_products_of_block(std::size_t threads);
void end_products_of_thread(int thread);
void end_products_of_block();

}  // namespace async
}  // namespace simt
