// Attention of new tokens to a key-value cache on the GPU: a few in parts, prompts in tiles; what neither takes, by a warp for each token and head.
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

/// New tokens of each sequence attend to its cache, which holds their own keys and values already (`rotate_into_cache`): token i
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
