// What lets copies and warps of sm_90 run beside each other: barriers in shared memory, boxes of tensors that arrive at them, and registers that warps trade.
// SPDX-License-Identifier: Apache-2.0
// As in ptx.cuh, a target that lacks them traps; built for sm_90a only, since the products that need them are (ptx_wgmma.cuh).
#pragma once

#include <cuda.h>

#include <cstdint>

namespace golem::cuda::ptx {

/// The first line of a kernel that no other target can run: there, no code is made of what is behind it.
__device__ inline void require_sm_90a() {
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
  __trap();
  __builtin_unreachable();
#endif
}

/// An address as the instructions of shared memory take it: bytes from the start of the block's window.
__device__ inline unsigned shared_address(const void* shared) { return static_cast<unsigned>(__cvta_generic_to_shared(shared)); }

/// In shared memory: counts arrivals and bytes, phase by phase. A phase ends when all that it expects have come; the next expects
/// as many arrivals.
struct alignas(8) PhaseBarrier {
  std::uint64_t state;
};

__device__ inline void init_barrier(PhaseBarrier& barrier, int arrivals) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals) : "memory");
#elif defined(__CUDA_ARCH__)
  __trap();
#endif
}

/// Lets copies and products see what this thread has written to shared memory, barriers included. Others' come behind a barrier.
__device__ inline void show_shared_writes() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#elif defined(__CUDA_ARCH__)
  __trap();
#endif
}

/// One arrival.
__device__ inline void arrive(PhaseBarrier& barrier) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory");
#elif defined(__CUDA_ARCH__)
  __trap();
#endif
}

/// One arrival, and `bytes` more that copies are to bring before the phase ends.
__device__ inline void arrive_and_expect(PhaseBarrier& barrier, int bytes) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)), "r"(bytes) : "memory");
#elif defined(__CUDA_ARCH__)
  __trap();
#endif
}

/// Waits for the end of the running phase if its number is of this parity, else for none: the one before has ended. The first
/// phase is number 0.
__device__ inline void wait_for_phase(PhaseBarrier& barrier, int parity) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  for (int done = 0; !done;)
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.b32 %0, 1, 0, p; }"
                 : "=r"(done)
                 : "r"(shared_address(&barrier)), "r"(parity)
                 : "memory");
#elif defined(__CUDA_ARCH__)
  __trap();
#endif
}

/// Starts to copy a box of a tensor of four dims, from element (x, y, z, w) on, to shared memory; `map` is a __grid_constant__
/// parameter of the kernel and says how large the box is and how it lies. What is outside of the tensor becomes zeros. All bytes of
/// the box arrive at the barrier.
template <class T>
__device__ void copy_box(T* shared, const CUtensorMap& map, int x, int y, int z, int w, PhaseBarrier& barrier) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(shared_address(shared)),
               "l"(&map), "r"(x), "r"(y), "r"(z), "r"(w), "r"(shared_address(&barrier))
               : "memory");
#elif defined(__CUDA_ARCH__)
  __trap();
#endif
}

/// Leaves this warpgroup's threads `Registers` registers each, a multiple of 8, and the rest to others of the block.
template <int Registers>
__device__ void give_registers() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
#elif defined(__CUDA_ARCH__)
  __trap();
#endif
}

/// Waits until this warpgroup's threads can have `Registers` registers each.
template <int Registers>
__device__ void take_registers() {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
#elif defined(__CUDA_ARCH__)
  __trap();
#endif
}

}  // namespace golem::cuda::ptx
