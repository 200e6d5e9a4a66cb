// New tokens on their way to attention: queries and keys are rotated, and keys and values copied to their places in the key-value cache.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "golem/core/error.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cpu/device.hpp"
#include "golem/cpu/rotate.hpp"

namespace golem::cpu {

/// Turns the queries and keys of qkv (N, G, S + 2, D) by the angles of cos, sin (context, D/2) at positions (N), unless cos is
/// empty, and copies the keys and values of each sequence's new tokens to their places in the cache: keys, values (slots, G,
/// capacity, D). Throws Error where shapes disagree or a sequence does not fit, before anything is written.
template <class T>
void rotate_into_cache(Device& device, View<T, 4> keys, std::type_identity_t<View<T, 4>> values, std::type_identity_t<View<T, 4>> qkv,
                       std::type_identity_t<View<const accumulate_t<T>, 2>> cos, std::type_identity_t<View<const accumulate_t<T>, 2>> sin,
                       View<const std::int32_t, 1> positions, View<const CachedSequence, 1> sequences, Rounding rounding = Rounding::once) {
  const std::int64_t groups = qkv.extent(1), parts = qkv.extent(2), capacity = keys.extent(2), dims = qkv.extent(3);
  require_cache_shapes<T>(keys, values, qkv, cos, sin, positions);
  for (std::int64_t s = 0; s < sequences.extent(0); ++s) {
    const CachedSequence& q = sequences(s);
    require(q.first >= 0 && q.count >= 0 && q.first + q.count <= capacity && q.slot >= 0 && q.slot < keys.extent(0) && q.row >= 0 &&
                q.row + q.count <= qkv.extent(0),
            "rotate_into_cache was given tokens ", q.first, " to ", q.first + q.count, " for slot ", q.slot, " of a cache of shape ", shape_of(keys),
            ", from row ", q.row, " of ", qkv.extent(0), ": make the cache longer, or end the sequence");
  }
  if (cos) rotate(device, qkv, cos, sin, positions, rounding);
  device.parallel(sequences.extent(0) * groups, [&](std::int64_t piece) {
    const CachedSequence& q = sequences(piece / groups);
    const std::int64_t head = piece % groups;
    for (std::int64_t i = 0; i < q.count; ++i) {
      std::memcpy(&keys(q.slot, head, q.first + i, 0), &qkv(q.row + i, head, parts - 2, 0), static_cast<std::size_t>(dims) * sizeof(T));
      std::memcpy(&values(q.slot, head, q.first + i, 0), &qkv(q.row + i, head, parts - 1, 0), static_cast<std::size_t>(dims) * sizeof(T));
    }
  });
}

}  // namespace golem::cpu
