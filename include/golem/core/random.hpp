// Random numbers as a function of (seed, stream, index): Philox 4x32-10, so that any rank can draw any element.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

#include "golem/core/annotate.hpp"

namespace golem {

/// Four independent 32-bit words.
struct Bits4 {
  std::uint32_t word[4];
};

/// Philox 4x32 with ten rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
GOLEM_HD constexpr Bits4 philox(std::uint64_t key, std::uint64_t counter_high, std::uint64_t counter_low) {
  auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  Bits4 c{{static_cast<std::uint32_t>(counter_low), static_cast<std::uint32_t>(counter_low >> 32),
           static_cast<std::uint32_t>(counter_high), static_cast<std::uint32_t>(counter_high >> 32)}};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53u} * c.word[0], b = std::uint64_t{0xCD9E8D57u} * c.word[2];
    c = {{static_cast<std::uint32_t>(b >> 32) ^ c.word[1] ^ k0, static_cast<std::uint32_t>(b),
          static_cast<std::uint32_t>(a >> 32) ^ c.word[3] ^ k1, static_cast<std::uint32_t>(a)}};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

/// A number for a name (FNV-1a), for instance of a tensor: the stream that its elements are drawn from.
constexpr std::uint64_t stream_of(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

/// One of the independent streams of a seed. Copyable, stateless: element i is the same whoever asks, in whatever order.
struct Random {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;

  GOLEM_HD constexpr Bits4 bits(std::uint64_t index) const { return philox(seed, stream, index); }

  /// Uniform in [0, 1), 53 bits.
  GOLEM_HD constexpr double uniform(std::uint64_t index) const {
    const Bits4 b = bits(index);
    return static_cast<double>(((std::uint64_t{b.word[0]} << 32) | b.word[1]) >> 11) * 0x1p-53;
  }

  /// Uniform in 0 .. n-1 (n at least 1), without bias that 64 bits could show.
  GOLEM_HD constexpr std::uint64_t below(std::uint64_t index, std::uint64_t n) const {
    const Bits4 b = bits(index);
    const std::uint64_t x = (std::uint64_t{b.word[0]} << 32) | b.word[1];
    const std::uint64_t high = (x >> 32) * (n >> 32), low_high = (x & 0xffffffffu) * (n >> 32), high_low = (x >> 32) * (n & 0xffffffffu);
    const std::uint64_t carry = (((x & 0xffffffffu) * (n & 0xffffffffu)) >> 32) + (low_high & 0xffffffffu) + (high_low & 0xffffffffu);
    return high + (low_high >> 32) + (high_low >> 32) + (carry >> 32);
  }

  /// Standard normal (Box-Muller on 53-bit uniforms).
  double normal(std::uint64_t index) const {
    const Bits4 b = bits(index);
    const double u = (static_cast<double>(((std::uint64_t{b.word[0]} << 32) | b.word[1]) >> 11) + 1.0) * 0x1p-53;
    const double v = static_cast<double>(((std::uint64_t{b.word[2]} << 32) | b.word[3]) >> 11) * 0x1p-53;
    return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586476925 * v);
  }
};

}  // namespace golem
