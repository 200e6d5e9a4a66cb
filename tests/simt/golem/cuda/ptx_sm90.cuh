// The functions of golem's cuda/ptx_sm90.cuh, on the host: boxes arrive late, and barriers count them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>

#include <cstdint>
#include <source_location>

#include "simt/async.hpp"
#include "simt/simt.hpp"

namespace golem::cuda::ptx {

inline void require_sm_90a() {}

inline unsigned shared_address(const void* shared) { return simt::shared_address(shared); }

struct alignas(8) PhaseBarrier {
  std::uint64_t state;
};

inline void init_barrier(PhaseBarrier& barrier, int arrivals) { simt::init_phases(&barrier, arrivals); }
inline void show_shared_writes() { simt::show_shared_writes(); }
inline void arrive(PhaseBarrier& barrier) { simt::arrive(&barrier, 0); }
inline void arrive_and_expect(PhaseBarrier& barrier, int bytes) { simt::arrive(&barrier, bytes); }
inline void wait_for_phase(PhaseBarrier& barrier, int parity, const std::source_location where = std::source_location::current()) { simt::wait_for_phase(&barrier, parity, where); }

template <class T>
void copy_box(T* shared, const CUtensorMap& map, int x, int y, int z, int w, PhaseBarrier& barrier) {
  simt::copy_box(shared, map, {x, y, z, w}, &barrier);
}

template <int Registers>
void give_registers(const std::source_location where = std::source_location::current()) {
  simt::set_registers(Registers, where);
}
template <int Registers>
void take_registers(const std::source_location where = std::source_location::current()) {
  simt::set_registers(Registers, where);
}

}  // namespace golem::cuda::ptx
