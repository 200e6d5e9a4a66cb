// Attention of a few new tokens to a key-value cache in the original's steps (spec 1.5), cut in parts: a kernel keeps the scores, another weighs the values.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "golem/core/buffer.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/cuda/attention_cached_parts.cuh"
#include "golem/cuda/attention_cached_rows.cuh"
#include "golem/cuda/attention_plain.cuh"
#include "golem/cuda/device.hpp"
#include "golem/cuda/launch.hpp"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

/// scores (N, H, capacity), rounded and scaled as attend_stepwise has them.
template <class T, int HeadDim>
__global__ void __launch_bounds__(32 * cache_warps, cache_blocks) score_cache_kernel(accumulate_t<T>* scores, CachedAttention<T> call, CacheParts parts) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  using Reader = CacheReader<T, HeadDim, wide<T>>;
  const CachePart part(call, parts);
  if (part.begin >= part.end) return;
  const Reader reader(call.shape.dims);
  typename Reader::Dims query;
  reader.load_query(query, call.qkv + call.shape.at(part.n, part.head, 0), call.shape.query_scale);
  const T* from = call.keys + call.cache(*part.sequence, part.head);
  const int seen = call.seen(*part.sequence, part.n);
  A* to = scores + std::int64_t{part.item} * call.capacity;
  for (int first = part.begin; first < part.end; first += Reader::stride) {
    typename Reader::Rows keys;
    reader.load_rows(keys, from, first, part.end);
    A score[Reader::together];
    reader.multiply(score, query, keys);
#pragma unroll
    for (int u = 0; u < Reader::together; ++u)
      if (const int key = reader.row_of(first, u); reader.own == 0 && key < part.end) to[key] = key < seen ? rounded<T>(score[u]) * call.shape.score_scale : static_cast<A>(hidden_score);
  }
}

/// The values of each part by their probabilities, which are rounded once the sum of all is known: each block makes that sum anew.
template <class T, int HeadDim>
__global__ void __launch_bounds__(32 * cache_warps, cache_blocks) weigh_cache_kernel(const accumulate_t<T>* scores, CachedAttention<T> call, CacheResults<accumulate_t<T>> results, CacheParts parts) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  using Reader = CacheReader<T, HeadDim, wide<T>>;
  const CachePart part(call, parts);
  if (part.begin >= part.end) return;
  const A* score = scores + std::int64_t{part.item} * call.capacity;
  const int scored = call.scored(*part.sequence, part.n);
  A max = -INFINITY, sum = 0;
  for (int key = static_cast<int>(threadIdx.x); key < scored; key += 32 * cache_warps) max = larger(max, score[key]);
  max = block_max(max, dynamic_shared<A>());
  for (int key = static_cast<int>(threadIdx.x); key < scored; key += 32 * cache_warps) sum += exponential(score[key] - max);
  sum = block_sum(sum, dynamic_shared<A>());

  const Reader reader(call.shape.dims);
  typename Reader::Dims sums{};
  const T* from = call.values + call.cache(*part.sequence, part.head);
  for (int first = part.begin; first < part.end; first += Reader::stride) {
    typename Reader::Rows values;
    reader.load_rows(values, from, first, part.end);
#pragma unroll
    for (int u = 0; u < Reader::together; ++u) {
      const int key = reader.row_of(first, u);
      Reader::add(sums, key < part.end ? rounded<T>(exponential(score[key] - max) / sum) : A{0}, values[u]);
    }
  }
  // What is merged has been divided: every weight is 1, and the sum of all.
  store_part(call, results, parts, part, reader, A{0}, blockIdx.y == 0 && threadIdx.x < Reader::lanes ? A{1} : A{0}, sums);
}

/// Starts the three kernels.
template <int HeadDim, class T>
void start_stepwise_parts(Device& device, const CachedAttention<T>& call, std::int64_t most_parts) {
  using A = accumulate_t<T>;
  const CacheParts parts = parts_of(call, most_parts, CacheReader<T, HeadDim, wide<T>>::stride);
  CacheResults<A> results;
  A* scores = nullptr;
  const auto lay_out = [&](Arena arena) {
    scores = arena.take<A>(call.shape.length, call.shape.heads, call.capacity).data;
    results.lay_out(arena, call, parts);
    return arena.used();
  };
  const std::size_t bytes = lay_out({});
  lay_out({device.workspace<std::byte>(static_cast<std::int64_t>(bytes)), bytes});
  launch(device, parts_launch("score_cache", call, parts), score_cache_kernel<T, HeadDim>, scores, call, parts);
  launch(device, parts_launch("weigh_cache", call, parts), weigh_cache_kernel<T, HeadDim>, scores, call, results, parts);
  merge_parts(device, call, results, parts);
}

}  // namespace golem::cuda
