// Dropout: what is kept is a function of (seed, stream, element), so the backward pass and every layout draw the same.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "golem/core/math.hpp"
#include "golem/core/random.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cpu/device.hpp"

namespace golem::cpu {

/// y = x / (1 - rate) where kept, else 0. Element i is kept where the i % 8th of the eight 16-bit halves of
/// random.bits(i / 8) is at least round(rate * 65536). y may be x. The backward pass is the same call on the gradient.
template <class T>
void drop(Device& device, View<T, 2> y, std::type_identity_t<View<const T, 2>> x, double rate, Random random) {
  using A = accumulate_t<T>;
  constexpr std::int64_t piece = 4096;
  const auto threshold = static_cast<std::uint32_t>(std::lround(rate * 65536));
  const A scale = static_cast<A>(1 / (1 - rate));
  const std::int64_t size = y.size();
  device.parallel(ceil_div(size, piece), [&](std::int64_t p) {
    for (std::int64_t i = p * piece; i < smaller(size, (p + 1) * piece); i += 8) {
      const Bits4 bits = random.bits(static_cast<std::uint64_t>(i) / 8);
      for (std::int64_t j = 0; j < smaller<std::int64_t>(8, size - i); ++j) {
        const std::uint32_t half = (bits.word[j / 2] >> (16 * (j % 2))) & 0xffffu;
        y.data[i + j] = static_cast<T>(half >= threshold ? static_cast<A>(x.data[i + j]) * scale : A{0});
      }
    }
  });
}

}  // namespace golem::cpu
