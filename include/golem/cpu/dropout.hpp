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

/// y = x / (1 - rate) where kept, else 0. Element i of y is element e = first + i of what is dropped as a whole, and is kept
/// where the e % 8th of the eight 16-bit halves of random.bits(e / 8) is at least round(rate * 65536). y may be x. The
/// backward pass is the same call on the gradient.
template <class T>
void drop(Device& device, View<T, 2> y, std::type_identity_t<View<const T, 2>> x, double rate, Random random, std::int64_t first) {
  using A = accumulate_t<T>;
  constexpr std::int64_t piece = 4096;
  const auto threshold = static_cast<std::uint32_t>(std::lround(rate * 65536));
  const A scale = static_cast<A>(1 / (1 - rate));
  const std::int64_t end = first + y.size(), aligned = first / piece * piece;
  device.parallel(ceil_div(end - aligned, piece), [&](std::int64_t p) {
    const std::int64_t from = aligned + p * piece, to = smaller(end, from + piece);
    for (std::int64_t block = from; block < to; block += 8) {
      const Bits4 bits = random.bits(static_cast<std::uint64_t>(block) / 8);
      for (std::int64_t e = larger(block, first); e < smaller(block + 8, to); ++e) {
        const std::uint32_t half = (bits.word[(e - block) / 2] >> (16 * (e % 2))) & 0xffffu;
        y.data[e - first] = static_cast<T>(half >= threshold ? static_cast<A>(x.data[e - first]) * scale : A{0});
      }
    }
  });
}

}  // namespace golem::cpu
