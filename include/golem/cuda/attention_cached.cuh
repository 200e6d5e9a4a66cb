// Attention of new tokens to a key-value cache on the GPU: a warp takes a token and a head.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/core/error.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/attention_plain.cuh"
#include "golem/cuda/attention_stepwise.cuh"
#include "golem/cuda/device.hpp"

namespace golem::cuda {

/// The sequence that new token `n` belongs to; null where it belongs to none.
__device__ inline const CachedSequence* sequence_of(const CachedSequence* sequences, int count, std::int64_t n) {
  for (int s = 0; s < count; ++s)
    if (n >= sequences[s].row && n < sequences[s].row + sequences[s].count) return sequences + s;
  return nullptr;
}

/// Block (n, head) copies one token's key and value to their place in the cache, unless that lies beyond it.
template <class T>
__global__ void __launch_bounds__(64) append_cache_kernel(T* keys, T* values, const T* qkv, const CachedSequence* sequences, int count, int slots, int capacity, int dims) {
  const std::int64_t n = blockIdx.x, head = blockIdx.y, heads = gridDim.y;
  const CachedSequence* sequence = sequence_of(sequences, count, n);
  if (!sequence) return;
  const std::int64_t token = sequence->first + (n - sequence->row), slot = sequence->slot;
  if (token < 0 || token >= capacity || slot < 0 || slot >= slots) return;
  const T* from = qkv + ((n * heads + head) * 3 + 1) * dims;
  const std::int64_t to = ((slot * heads + head) * capacity + token) * dims;
  for (int d = static_cast<int>(threadIdx.x); d < dims; d += static_cast<int>(blockDim.x)) {
    keys[to + d] = from[d];
    values[to + d] = from[dims + d];
  }
}

template <class T>
__global__ void __launch_bounds__(32 * plain_warps) attend_cached_kernel(T* out, const T* qkv, const T* keys, const T* values, const CachedSequence* sequences, int count, int capacity,
                                                                         std::int64_t tokens, AttentionShape<T> shape, Rounding rounding) {
  using A = accumulate_t<T>;
  A* query = dynamic_shared<A>() + threadIdx.x / 32 * shape.dims;
  const std::int64_t item = std::int64_t{blockIdx.x} * plain_warps + threadIdx.x / 32, n = item / shape.heads, head = item % shape.heads;
  if (n >= tokens) return;
  const CachedSequence* sequence = sequence_of(sequences, count, n);
  if (!sequence) return;
  const int t = static_cast<int>(sequence->first + (n - sequence->row)), end = sequence->first + sequence->count, seen = t + 1 > sequence->prefix ? t + 1 : sequence->prefix;
  load_query(query, qkv + shape.at(n, static_cast<int>(head), 0), shape);
  const std::int64_t cache = (std::int64_t{sequence->slot} * shape.heads + head) * capacity * shape.dims;
  const PlainQuery<T> q{query, keys + cache, values + cache, shape.dims, {0, seen < end ? seen : end}};
  A sums[lane_dims];
  if (rounding == Rounding::stepwise) attend_stepwise(q, sums, end, shape);
  else q.attend(sums, shape);
  store_dims(out + item * shape.dims, sums, shape.dims);
}

/// Copies the rotated keys and the values of new tokens to their places in the cache: keys, values (slots, H, capacity, D).
/// Sequences are on the device, so that whoever made them has checked that they fit; what does not is not written.
template <class T>
void append_cache(Device& device, View<T, 4> keys, std::type_identity_t<View<T, 4>> values, std::type_identity_t<View<const T, 4>> qkv, View<const CachedSequence, 1> sequences) {
  const int dims = static_cast<int>(qkv.extent(3));
  launch(device, {.name = "append_cache", .blocks = qkv.extent(0), .threads = 64, .blocks_y = qkv.extent(1)}, append_cache_kernel<T>, keys.data, values.data, qkv.data, sequences.data,
         static_cast<int>(sequences.extent(0)), static_cast<int>(keys.extent(0)), static_cast<int>(keys.extent(2)), dims);
}

/// New tokens of each sequence attend to its cache, which holds their own keys and values already (`append_cache`): token i
/// sees token j where j <= i or j < prefix. `options.dropout` is not used.
template <class T>
void attend_cached(Device& device, View<T, 3> out, std::type_identity_t<View<const T, 4>> qkv, std::type_identity_t<View<const T, 4>> keys, std::type_identity_t<View<const T, 4>> values,
                   View<const CachedSequence, 1> sequences, const AttentionOptions& options) {
  using A = accumulate_t<T>;
  const std::int64_t tokens = qkv.extent(0), heads = qkv.extent(1), dims = qkv.extent(3);
  require(keys.extent(1) == heads && keys.extent(3) == dims && keys.size() == values.size() && out.size() * 3 == qkv.size(), "attend_cached was given qkv ", shape_of(qkv), ", keys ",
          shape_of(keys), ", values ", shape_of(values), " and out ", shape_of(out), ": give (N, H, 3, D), (slots, H, capacity, D) twice, and (N, H, D)");
  AttentionOptions inference = options;
  inference.dropout = 0;
  launch(device, plain_launch<A>("attend_cached", tokens * heads, dims), attend_cached_kernel<T>, out.data, qkv.data, keys.data, values.data, sequences.data,
         static_cast<int>(sequences.extent(0)), static_cast<int>(keys.extent(2)), tokens, attention_shape<T>(qkv, 1, inference), options.rounding);
}

}  // namespace golem::cuda
