// What the machine can do at most, measured in the run that the figures beside it come from.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "golem/cpu/simd.hpp"
#include "golem/cpu/device.hpp"

namespace limits {

inline double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

inline double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

/// Sixteen chains of fp32 multiply-adds in registers, from numbers that the compiler does not know: of others it may compute the end.
struct FmaPiece {
  static constexpr std::int64_t rounds = 200000, chains = 16;
  template <int width>
  [[gnu::always_inline]] static void run(float* out, const float* from) {
    using V = golem::cpu::Lanes<float, width>;
    V sum[chains], a = V{} + from[chains], b = V{} + from[chains + 1];
    for (int c = 0; c < chains; ++c) sum[c] = V{} + from[c];
    for (std::int64_t i = 0; i < rounds; ++i)
#pragma GCC unroll 16
      for (V& s : sum) s = s * a + b;
    *out = 0;
    for (const V& s : sum) *out += s[0];
  }
};

/// Seconds that all threads of the device take for one piece each, and the operations of those pieces (2 a multiply-add).
inline double fma_seconds(golem::cpu::Device& device) {
  const double start = now();
  device.parallel(device.threads(), [&](std::int64_t) {
    float out = 0, from[FmaPiece::chains + 2];
    for (int c = 0; c < FmaPiece::chains; ++c) from[c] = static_cast<float>(c);
    from[FmaPiece::chains] = 0.999f, from[FmaPiece::chains + 1] = 0.001f;
    benchmark::DoNotOptimize(from);
    golem::cpu::run_on<FmaPiece>(device.isa(), &out, static_cast<const float*>(from));
    benchmark::DoNotOptimize(out);
  });
  return now() - start;
}
inline double fma_operations(const golem::cpu::Device& device) {
  const int width = device.isa() >= golem::cpu::Isa::avx512 ? 16 : device.isa() >= golem::cpu::Isa::avx2 ? 8 : 4;
  return 2.0 * device.threads() * FmaPiece::rounds * FmaPiece::chains * width;
}

/// Sums what it reads.
struct ReadPiece {
  template <int width>
  [[gnu::always_inline]] static void run(float* out, const std::uint8_t* from, std::int64_t bytes) {
    using V = golem::cpu::Lanes<std::int32_t, width>;
    V sum[4] = {}, part;
    for (std::int64_t i = 0; i + 4 * width <= bytes; i += 4 * width)
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        __builtin_memcpy(&part, from + i + k * width, width);
        sum[k] += part;
      }
    *out = static_cast<float>(sum[0][0] + sum[1][0] + sum[2][0] + sum[3][0]);
  }
};

/// Seconds that all threads of the device take to read these bytes.
inline double read_seconds(golem::cpu::Device& device, const void* data, std::int64_t bytes) {
  constexpr std::int64_t piece = 1 << 18;
  const double start = now();
  device.parallel(bytes / piece, [&](std::int64_t i) {
    float out = 0;
    golem::cpu::run_on<ReadPiece>(device.isa(), &out, static_cast<const std::uint8_t*>(data) + i * piece, piece);
    benchmark::DoNotOptimize(out);
  });
  return now() - start;
}

}  // namespace limits
