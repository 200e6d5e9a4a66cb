// Attention of new tokens to a key-value cache on the GPU, which this fills: a few in parts, prompts in tiles; what neither takes, by a warp for each token and head.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/config/plan_inference.hpp"
#include "golem/core/error.hpp"
#include "golem/core/math.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/attention_cached_parts.cuh"
#include "golem/cuda/attention_cached_rows.cuh"
#include "golem/cuda/attention_cached_stepwise.cuh"
#include "golem/cuda/attention_cached_tile.cuh"
#include "golem/cuda/attention_plain.cuh"
#include "golem/cuda/attention_shape.cuh"
#include "golem/cuda/attention_stepwise.cuh"
#include "golem/cuda/device.hpp"

namespace golem::cuda {

/// Block (n, head) copies one token's key and value, behind the queries that share them, to their place in the cache, unless that lies beyond it.
template <class T>
__global__ void __launch_bounds__(64) append_cache_kernel(T* keys, T* values, const T* qkv, const CachedSequence* sequences, int count, int slots, int capacity, int sharers, int dims) {
  ptx::begin_kernel();
  const std::int64_t n = blockIdx.x, head = blockIdx.y, heads = gridDim.y;
  const CachedSequence* sequence = sequence_of(sequences, count, n);
  if (!sequence) return;
  const std::int64_t token = sequence->first + (n - sequence->row), slot = sequence->slot;
  if (token < 0 || token >= capacity || slot < 0 || slot >= slots) return;
  const T* from = qkv + ((n * heads + head) * (sharers + 2) + sharers) * dims;
  const std::int64_t to = ((slot * heads + head) * capacity + token) * dims;
  for (int d = static_cast<int>(threadIdx.x); d < dims; d += static_cast<int>(blockDim.x)) {
    keys[to + d] = from[d];
    values[to + d] = from[dims + d];
  }
}

/// The original's steps (attend_stepwise) of any type, and of prompts: a warp takes a token and a head.
template <class T>
__global__ void __launch_bounds__(32 * plain_warps) attend_cached_stepwise_kernel(CachedAttention<T> call) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  const AttentionShape<T>& shape = call.shape;
  A* query = dynamic_shared<A>() + threadIdx.x / 32 * shape.dims;
  const std::int64_t item = std::int64_t{blockIdx.x} * plain_warps + threadIdx.x / 32, n = item / shape.heads;
  const int head = static_cast<int>(item % shape.heads);
  if (n >= shape.length) return;
  const CachedSequence* sequence = sequence_of(call.sequences, call.count, n);
  if (!sequence) return;
  load_query(query, call.qkv + shape.at(n, head, 0), shape);
  const std::int64_t cache = call.cache(*sequence, head);
  A sums[lane_dims];
  attend_stepwise(PlainQuery<T>{query, call.keys + cache, call.values + cache, shape.dims, {0, call.seen(*sequence, static_cast<int>(n))}}, sums, call.scored(*sequence, static_cast<int>(n)), shape);
  store_dims(call.out + item * shape.dims, sums, shape.dims);
}

/// Copies the rotated keys and the values of new tokens to their places in the cache: keys, values (slots, G, capacity, D).
/// Sequences are on the device, so that whoever made them has checked that they fit; what does not is not written.
template <class T>
void append_cache(Device& device, View<T, 4> keys, std::type_identity_t<View<T, 4>> values, std::type_identity_t<View<const T, 4>> qkv, View<const CachedSequence, 1> sequences) {
  const int dims = static_cast<int>(qkv.extent(3));
  launch(device, {.name = "append_cache", .early = true, .blocks = qkv.extent(0), .threads = 64, .blocks_y = qkv.extent(1)}, append_cache_kernel<T>, keys.data, values.data, qkv.data, sequences.data,
         static_cast<int>(sequences.extent(0)), static_cast<int>(keys.extent(0)), static_cast<int>(keys.extent(2)), static_cast<int>(qkv.extent(2) - 2), dims);
}

/// New tokens of each sequence attend to its cache, which holds their own keys and values already (`append_cache`): token i
/// sees token j where j <= i or j < prefix. `options.dropout` is not used. Sequences of a few new tokens are taken in parts, so
/// that they fill the GPU; of more, in tiles. What a kernel does depends on sequences, and how many are started does not.
template <class T, class Options = AttentionOptions>
void attend_cached(Device& device, View<T, 3> out, std::type_identity_t<View<const T, 4>> qkv, std::type_identity_t<View<const T, 4>> keys, std::type_identity_t<View<const T, 4>> values,
                   View<const CachedSequence, 1> sequences, const Options& options) {
  using A = accumulate_t<T>;
  const std::int64_t tokens = qkv.extent(0), heads = query_heads(qkv), dims = qkv.extent(3);
  require(keys.extent(1) == qkv.extent(1) && keys.extent(3) == dims && keys.size() == values.size() && out.size() == tokens * heads * dims, "attend_cached was given qkv ", shape_of(qkv), ", keys ",
          shape_of(keys), ", values ", shape_of(values), " and out ", shape_of(out), ": give (N, G, S + 2, D), (slots, G, capacity, D) twice, and (N, H, D)");
  if (out.size() == 0) return;
  Options inference = options;
  inference.dropout = 0;
  const CachedAttention<T> call{.out = out.data,
                                .qkv = qkv.data,
                                .keys = keys.data,
                                .values = values.data,
                                .sequences = sequences.data,
                                .count = static_cast<int>(sequences.extent(0)),
                                .capacity = static_cast<int>(keys.extent(2)),
                                .rounding = options.rounding,
                                .shape = attention_shape(qkv, 1, inference)};
  const bool few = tokens <= few_cached_tokens * sequences.extent(0), loads_wide = fits_wide<T>(dims, out.data, qkv.data, keys.data, values.data);
  const std::int64_t parts = few ? smaller<std::int64_t>(cache_blocks * device.multiprocessors(), most_cache_blocks) / heads : 1;
  if (options.rounding == Rounding::stepwise) {
    bool done = false;
    if constexpr (sizeof(T) == 2)
      if (few && loads_wide) with_head_dim<Options>(dims, [&]<int HeadDim>() { start_stepwise_parts<HeadDim>(device, call, parts), done = true; });
    if (!done) launch(device, plain_launch<A>("attend_cached_stepwise", tokens * heads, dims), attend_cached_stepwise_kernel<T>, call);
    return;
  }
  if (!loads_wide) return start_parts<most_head_dims, 1>(device, call, parts);
  with_head_dim<Options>(dims, [&]<int HeadDim>() {
    bool done = false;
    if constexpr (sizeof(T) == 2) done = !few && start_cached_tiles<HeadDim>(device, call);
    if (!done) start_parts<HeadDim, wide<T>>(device, call, parts);
  });
}

}  // namespace golem::cuda
