// The instruction sets that the CPU engine has paths for, found at run time.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace golem::cpu {

/// Each level includes those before it. Functions of a level carry it as [[gnu::target]], so users need no -march.
enum class Isa : std::uint8_t {
  plain,        // what the compiler makes of C++
  avx2,         // AVX2, FMA, F16C
  avx512,       // AVX-512 F, BW, DQ, VL
  avx512_vnni,  // and VNNI: int8 dot products
  avx512_bf16,  // and BF16: bfloat16 dot products, by oneDNN alone
};

constexpr const char* name_of(Isa isa) {
  constexpr const char* names[]{"plain", "avx2", "avx512", "avx512_vnni", "avx512_bf16"};
  return names[static_cast<int>(isa)];
}

/// The highest level that this processor has.
inline Isa detect_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) return Isa::plain;
  if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))) return Isa::avx2;
  if (!__builtin_cpu_supports("avx512vnni")) return Isa::avx512;
  return __builtin_cpu_supports("avx512bf16") ? Isa::avx512_bf16 : Isa::avx512_vnni;
#else
  return Isa::plain;
#endif
}

}  // namespace golem::cpu
