// New tokens on their way to attention on the GPU: queries and keys are rotated, and keys and values copied to their places in the key-value cache, in one kernel.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/core/error.hpp"
#include "golem/core/math.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/attention_cached_rows.cuh"
#include "golem/cuda/device.hpp"
#include "golem/cuda/rotate.cuh"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

/// What a call of rotate_into_cache reads and writes; cos, sin and positions are null where nothing is turned.
template <class T>
struct CacheEntries {
  T *qkv, *keys, *values;  // (N, G, S + 2, D), (slots, G, capacity, D) twice
  const accumulate_t<T>*cos, *sin;  // (context, D/2)
  const std::int32_t* positions;    // (N)
  const CachedSequence* sequences;
  int count, slots, capacity, groups, parts, dims;
  Rounding rounding;

  /// Where new token n has its first head in the cache, in elements; -1 where it belongs to no sequence, or beyond the cache.
  __device__ std::int64_t place_of(std::int64_t n) const {
    const CachedSequence* sequence = sequence_of(sequences, count, n);
    if (!sequence) return -1;
    const std::int64_t token = sequence->first + (n - sequence->row), slot = sequence->slot;
    return token < 0 || token >= capacity || slot < 0 || slot >= slots ? -1 : (slot * groups * capacity + token) * dims;
  }
};

/// Blocks (token, part of its heads); a thread takes Width pairs (j, j + D/2) of a query, a key or a value at a time.
template <class T, int Width>
__global__ void __launch_bounds__(128) rotate_into_cache_kernel(CacheEntries<T> call) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  const int half = call.dims / 2, vectors = half / Width, items = call.groups * call.parts * vectors;
  const std::int64_t n = blockIdx.x, place = call.place_of(n);
  const std::int64_t angle = call.cos ? std::int64_t{call.positions[n]} * half : 0;
  for (int item = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x); item < items; item += static_cast<int>(gridDim.y * blockDim.x)) {
    const int j = item % vectors * Width, head = item / vectors, group = head / call.parts, part = head % call.parts;
    const bool value = part == call.parts - 1, key = part == call.parts - 2;
    T* x = call.qkv + (n * call.groups * call.parts + head) * call.dims + j;
    A first[Width], second[Width];
    load(first, x);
    load(second, x + half);
    if (!value && call.cos) {
      A c[Width], s[Width];
      load(c, call.cos + angle + j);
      load(s, call.sin + angle + j);
      turn<T>(first, second, c, s, call.rounding);
      store(x, first);
      store(x + half, second);
    }
    if ((key || value) && place >= 0) {
      T* to = (value ? call.values : call.keys) + place + std::int64_t{group} * call.capacity * call.dims + j;
      store(to, first);
      store(to + half, second);
    }
  }
}

/// Turns the queries and keys of qkv (N, G, S + 2, D) by the angles of cos, sin (context, D/2) at positions (N), unless cos is
/// empty, and copies the keys and values of each sequence's new tokens to their places in the cache: keys, values (slots, G,
/// capacity, D). Sequences are on the device, so that whoever made them has checked that they fit; what does not is not written. Throws Error where shapes disagree.
template <class T>
void rotate_into_cache(Device& device, View<T, 4> keys, std::type_identity_t<View<T, 4>> values, std::type_identity_t<View<T, 4>> qkv, std::type_identity_t<View<const accumulate_t<T>, 2>> cos,
                       std::type_identity_t<View<const accumulate_t<T>, 2>> sin, View<const std::int32_t, 1> positions, View<const CachedSequence, 1> sequences, Rounding rounding = Rounding::once) {
  const std::int64_t tokens = qkv.extent(0), dims = qkv.extent(3);
  require_cache_shapes<T>(keys, values, qkv, cos, sin, positions);
  if (qkv.size() == 0) return;
  const CacheEntries<T> call{.qkv = qkv.data,
                             .keys = keys.data,
                             .values = values.data,
                             .cos = cos.data,
                             .sin = sin.data,
                             .positions = positions.data,
                             .sequences = sequences.data,
                             .count = static_cast<int>(sequences.extent(0)),
                             .slots = static_cast<int>(keys.extent(0)),
                             .capacity = static_cast<int>(keys.extent(2)),
                             .groups = static_cast<int>(qkv.extent(1)),
                             .parts = static_cast<int>(qkv.extent(2)),
                             .dims = static_cast<int>(dims),
                             .rounding = rounding};
  constexpr int threads = 128, together = 8;  // of a block; blocks of a multiprocessor
  const bool loads_wide = fits_wide<T>(dims / 2, qkv.data, keys.data, values.data, cos.data, sin.data);
  const std::int64_t items = qkv.size() / tokens / 2 / (loads_wide ? wide<T> : 1);
  launch(device, {.name = "rotate_into_cache", .early = true, .blocks = tokens, .threads = threads, .blocks_y = smaller(ceil_div(items, threads), ceil_div(together * device.multiprocessors(), tokens))},
         loads_wide ? rotate_into_cache_kernel<T, wide<T>> : rotate_into_cache_kernel<T, 1>, call);
}

}  // namespace golem::cuda
