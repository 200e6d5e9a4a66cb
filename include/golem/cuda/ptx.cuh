// The instructions that C++ has no words for, as functions of typed pointers: with ptx_sm90.cuh and ptx_wgmma.cuh the only place of inline PTX and of __CUDA_ARCH__.
// SPDX-License-Identifier: Apache-2.0
// Where the target lacks an instruction the function traps: ptxas would refuse it otherwise. tests/simt/ has the same functions for the host.
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/core/number.hpp"

namespace golem::cuda {

/// The block's shared memory, as much as the launch gave it; 128-byte aligned.
template <class T>
__device__ T* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char golem_shared_memory[];
  return reinterpret_cast<T*>(golem_shared_memory);
}

namespace ptx {

inline constexpr unsigned all_lanes = 0xffffffffu;

/// The lane's number in its warp.
__device__ inline int lane() { return static_cast<int>(threadIdx.x & 31u); }

/// What lane (own number ^ lanes) gave as `value`. Every lane takes part.
template <class T>
__device__ T shuffle_xor(T value, int lanes) {
  return __shfl_xor_sync(all_lanes, value, lanes);
}

/// What lane `from` gave as `value`. Every lane takes part.
template <class T>
__device__ T shuffle(T value, int from) {
  return __shfl_sync(all_lanes, value, from);
}

/// Adds to what all blocks see (or, in shared memory, all threads of one), and returns what was there.
__device__ inline std::uint32_t atomic_add(std::uint32_t* to, std::uint32_t value) { return atomicAdd(to, value); }
__device__ inline std::uint64_t atomic_add(std::uint64_t* to, std::uint64_t value) { return atomicAdd(reinterpret_cast<unsigned long long*>(to), value); }
__device__ inline void atomic_max(std::uint32_t* to, std::uint32_t value) { atomicMax(to, value); }
__device__ inline void atomic_max(std::uint64_t* to, std::uint64_t value) { atomicMax(reinterpret_cast<unsigned long long*>(to), value); }

/// What this thread wrote before, every block sees before what it writes behind.
__device__ inline void order_writes() { __threadfence(); }

/// Waits until `threads` threads, a multiple of 32, have come to barrier `number` (1 to 15; 0 is that of __syncthreads).
__device__ inline void meet(int number, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory"); }

/// Starts to copy 16 bytes to shared memory; both addresses are multiples of 16.
template <class T>
__device__ void copy_async(T* shared, const T* global) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(static_cast<unsigned>(__cvta_generic_to_shared(shared))), "l"(__cvta_generic_to_global(global)) : "memory");
#elif defined(__CUDA_ARCH__)
  __trap();
#endif
}

/// Closes the group of copies that this thread has started since the last call.
__device__ inline void commit_copies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#elif defined(__CUDA_ARCH__)
  __trap();
#endif
}

/// Waits until at most `Pending` of this thread's last groups are under way. Other threads see the copies behind a barrier.
template <int Pending>
__device__ void wait_for_copies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
#elif defined(__CUDA_ARCH__)
  __trap();
#endif
}

/// The first statement of a kernel that may be started early: waits until those before it have ended, and what they wrote is there, and lets the next be started.
__device__ inline void begin_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// Four 8 x 8 matrices of 16-bit elements from shared memory: lane i gives the address of row i % 8 of matrix i / 8 and gets,
/// in out[m], elements 2 (i % 4) and 2 (i % 4) + 1 of row i / 4 of matrix m.
template <class T>
__device__ void load_matrices(std::uint32_t (&out)[4], const T* row) {
  static_assert(sizeof(T) == 2, "golem: load_matrices takes 16-bit elements");
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 750
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
               : "memory");
#elif defined(__CUDA_ARCH__)
  __trap();
#endif
}

/// The same, each matrix transposed: elements 2 (i % 4) and 2 (i % 4) + 1 of column i / 4.
template <class T>
__device__ void load_matrices_transposed(std::uint32_t (&out)[4], const T* row) {
  static_assert(sizeof(T) == 2, "golem: load_matrices_transposed takes 16-bit elements");
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 750
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
               : "memory");
#elif defined(__CUDA_ARCH__)
  __trap();
#endif
}

/// Threads that a multiprocessor of the target holds, at least.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
inline constexpr int resident_threads = 1024;
#else
inline constexpr int resident_threads = 1536;
#endif

/// c (16, 8) += a (16, 16) b (16, 8), a and b of T, c of float, spread over the warp. With g = lane / 4 and t = lane % 4:
/// c[0], c[1] are columns 2t, 2t + 1 of row g, c[2], c[3] of row g + 8; a[0] holds columns 2t, 2t + 1 of row g, a[1] of row
/// g + 8, a[2] and a[3] the same 8 columns on; b[0] holds rows 2t, 2t + 1 of column g, b[1] the same 8 rows on.
template <class T>
__device__ void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  static_assert(std::is_same_v<T, float16> || std::is_same_v<T, bfloat16>, "golem: multiply_add takes float16 or bfloat16");
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if constexpr (std::is_same_v<T, float16>)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#elif defined(__CUDA_ARCH__)
  __trap();
#endif
}

/// 2 to the power of x, to 2 units in the last place; results below the smallest normal number are 0.
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// 1 / x to 1 unit in the last place; results below the smallest normal number are 0.
__device__ inline float reciprocal_fast(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Leaves the bits as they are, and the compiler without knowledge of them: what was made of them before is made again where it is
/// needed, and takes no registers until then.
__device__ inline void forget(std::uint32_t& bits) { asm volatile("" : "+r"(bits)); }

/// Two floats rounded to T, `low` in the lower half.
template <class T>
__device__ std::uint32_t pack(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  std::uint32_t bits;
  if constexpr (std::is_same_v<T, float16>) asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  else asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
#else
  return std::uint32_t{T(low).bits} | std::uint32_t{T(high).bits} << 16;
#endif
}

/// The floats that pack rounded to T.
template <class T>
__device__ void unpack(float& low, float& high, std::uint32_t pair) {
#if defined(__CUDA_ARCH__)
  if constexpr (std::is_same_v<T, float16>) {
    asm("{ .reg .b16 low, high; mov.b32 {low, high}, %2; cvt.f32.f16 %0, low; cvt.f32.f16 %1, high; }" : "=f"(low), "=f"(high) : "r"(pair));
  } else {
    low = __uint_as_float(pair << 16);
    high = __uint_as_float(pair & 0xffff0000u);
  }
#else
  low = static_cast<float>(T::from_bits(static_cast<std::uint16_t>(pair)));
  high = static_cast<float>(T::from_bits(static_cast<std::uint16_t>(pair >> 16)));
#endif
}

/// (bits & mask) ^ turned, in one instruction, which compilers do not find where both are constants.
__device__ inline std::uint32_t mask_and_turn(std::uint32_t bits, std::uint32_t mask, std::uint32_t turned) {
  std::uint32_t out;
  asm("lop3.b32 %0, %1, %2, %3, 0x6a;" : "=r"(out) : "r"(bits), "r"(mask), "r"(turned));
  return out;
}

/// The lower halves of two words, that of the first below; and the upper ones.
__device__ inline std::uint32_t lower_halves(std::uint32_t a, std::uint32_t b) { return __byte_perm(a, b, 0x5410); }
__device__ inline std::uint32_t upper_halves(std::uint32_t a, std::uint32_t b) { return __byte_perm(a, b, 0x7632); }

/// a b + c of pairs of T, rounded once.
template <class T>
__device__ std::uint32_t multiply_add_pairs(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  std::uint32_t sum = 0;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if constexpr (std::is_same_v<T, float16>) asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
  else asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
#elif defined(__CUDA_ARCH__)
  __trap();
#endif
  return sum;
}

/// sum + the products of four signed bytes by four others.
__device__ inline int dot4(std::uint32_t a, std::uint32_t b, int sum) { return __dp4a(static_cast<int>(a), static_cast<int>(b), sum); }

/// An element as what it accumulates in.
__device__ inline float widen(float16 x) {
#if defined(__CUDA_ARCH__)
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x.bits));
  return wide;
#else
  return static_cast<float>(x);
#endif
}
__device__ inline float widen(bfloat16 x) { return static_cast<float>(x); }
__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }

/// An accumulator rounded to T.
template <class T, class A>
__device__ T narrow(A x) {
#if defined(__CUDA_ARCH__)
  if constexpr (std::is_same_v<T, float16>) {
    std::uint16_t bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(static_cast<float>(x)));
    return T::from_bits(bits);
  }
#if __CUDA_ARCH__ >= 800
  if constexpr (std::is_same_v<T, bfloat16>) {
    std::uint16_t bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(static_cast<float>(x)));
    return T::from_bits(bits);
  }
#endif
#endif
  return static_cast<T>(x);
}

}  // namespace ptx
}  // namespace golem::cuda
