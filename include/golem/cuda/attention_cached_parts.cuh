// Attention of a few new tokens to a key-value cache: blocks take parts of the cache that a token and a head see, and a second kernel merges them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "golem/core/buffer.hpp"
#include "golem/core/math.hpp"
#include "golem/cuda/attention_cached_rows.cuh"
#include "golem/cuda/attention_plain.cuh"
#include "golem/cuda/attention_shape.cuh"
#include "golem/cuda/device.hpp"
#include "golem/cuda/launch.hpp"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

__device__ inline float power_of_two(float x) { return ptx::exp2_fast(x); }
__device__ inline double power_of_two(double x) { return exp2(x); }
/// What scores are lowered by where the largest is `top`: not by infinity, where there are none.
template <class A>
__device__ A base_of(A top) {
  return top == -INFINITY ? A{0} : top;
}

/// The softmaxes of one query over parts of its keys: part i has the largest score, in powers of two, the sum, and the sum of
/// weighted values, both relative to it.
template <class A>
struct PartialSoftmaxes {
  A *max, *sum, *values;  // (parts), (parts), (parts, dims)
  int dims;

  struct Merged {
    A max, sum, value;
  };
  /// Dim d of all of them, added in their order; Batch of them are read before the first is used.
  template <int Batch>
  __device__ Merged merged(int parts, int d) const {
    A top = -INFINITY;
#pragma unroll 1
    for (int first = 0; first < parts; first += Batch)
#pragma unroll
      for (int i = 0; i < Batch; ++i) top = larger(top, max[smaller(first + i, parts - 1)]);
    Merged all{top, 0, 0};
#pragma unroll 1
    for (int first = 0; first < parts; first += Batch) {
      A weight[Batch], part_sum[Batch], value[Batch];
#pragma unroll
      for (int i = 0; i < Batch; ++i) {
        const int part = smaller(first + i, parts - 1);  // beyond the last: the last, which then has no weight
        weight[i] = max[part], part_sum[i] = sum[part], value[i] = values[std::int64_t{part} * dims + d];
      }
#pragma unroll
      for (int i = 0; i < Batch; ++i) {
        weight[i] = first + i < parts ? power_of_two(weight[i] - base_of(top)) : A{0};
        all.sum += weight[i] * part_sum[i];
        all.value += weight[i] * value[i];
      }
    }
    return all;
  }
};

/// The parts of all new tokens, between the two kernels; `parts` of each are there, and as many as it needs are filled.
template <class A>
struct CacheResults {
  A *max = nullptr, *sum = nullptr, *values = nullptr;  // (N, H, parts), (N, H, parts), (N, H, parts, D)

  template <class T>
  void lay_out(Arena& arena, const CachedAttention<T>& call, CacheParts parts) {
    const std::int64_t items = std::int64_t{call.shape.length} * call.shape.heads;
    max = arena.take<A>(items, parts.most).data, sum = arena.take<A>(items, parts.most).data, values = arena.take<A>(items, parts.most, call.shape.dims).data;
  }
  __device__ PartialSoftmaxes<A> of(std::int64_t item, int parts, int dims) const { return {max + item * parts, sum + item * parts, values + item * parts * dims, dims}; }
};

/// Ends a part: what each lane has of its softmax becomes the block's, and goes to `results`, or, where there is no other part, out.
template <class T, int HeadDim, int Width>
__device__ void store_part(const CachedAttention<T>& call, const CacheResults<accumulate_t<T>>& results, CacheParts parts, const CachePart& part, const CacheReader<T, HeadDim, Width>& reader,
                           accumulate_t<T> max, accumulate_t<T> sum, typename CacheReader<T, HeadDim, Width>::Dims& sums) {
  using A = accumulate_t<T>;
  using Reader = CacheReader<T, HeadDim, Width>;
  const int dims = reader.dims, warp = static_cast<int>(threadIdx.x / 32);
#pragma unroll
  for (int far = Reader::lanes; far < 32; far *= 2) {
    const A top = larger(max, ptx::shuffle_xor(max, far)), rescale = power_of_two(max - base_of(top));
    max = top;
    sum *= rescale;
    sum += ptx::shuffle_xor(sum, far);
    Reader::scale(sums, rescale);
#pragma unroll
    for (int c = 0; c < Reader::chunks; ++c)
#pragma unroll
      for (int w = 0; w < Width; ++w) sums[c][w] += ptx::shuffle_xor(sums[c][w], far);
  }
  A* shared = dynamic_shared<A>();
  const PartialSoftmaxes<A> warps{shared, shared + cache_warps, shared + 2 * cache_warps, dims};
  if (ptx::lane() == 0) warps.max[warp] = max, warps.sum[warp] = sum;
  if (ptx::lane() < Reader::lanes) {
#pragma unroll
    for (int c = 0; c < Reader::chunks; ++c)
#pragma unroll
      for (int w = 0; w < Width; ++w)
        if (reader.dim(c) + w < dims) warps.values[warp * dims + reader.dim(c) + w] = sums[c][w];
  }
  __syncthreads();
  const PartialSoftmaxes<A> to = results.of(part.item, parts.most, dims);
#pragma unroll 1
  for (int d = static_cast<int>(threadIdx.x); d < dims; d += 32 * cache_warps) {
    const auto all = warps.template merged<cache_warps>(cache_warps, d);
    if (parts.most == 1) {
      call.out[std::int64_t{part.item} * dims + d] = ptx::narrow<T>(all.value / all.sum);
    } else {
      to.values[std::int64_t{blockIdx.y} * dims + d] = all.value;
      if (d == 0) to.max[blockIdx.y] = all.max, to.sum[blockIdx.y] = all.sum;
    }
  }
}

/// Block (token and head, part) makes one partial softmax, or, where there is one part, the result.
template <class T, int HeadDim, int Width>
__global__ void __launch_bounds__(32 * cache_warps, resident_cache_blocks<T, Width>) attend_parts_kernel(CachedAttention<T> call, CacheResults<accumulate_t<T>> results, CacheParts parts) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  using Reader = CacheReader<T, HeadDim, Width>;
  const CachePart part(call, parts);
  if (part.begin >= part.end) return;
  const Reader reader(call.shape.dims);
  typename Reader::Dims query, sums{};
  reader.load_query(query, call.qkv + call.shape.at(part.n, part.head, 0), call.shape.query_scale);
  const std::int64_t cache = call.cache(*part.sequence, part.head);
  const A to_log2 = call.shape.score_scale * log2_e<A>;
  A max = -INFINITY, sum = 0;
  for (int first = part.begin; first < part.end; first += Reader::stride) {
    typename Reader::Rows keys, values;
    reader.load_rows(keys, call.keys + cache, first, part.end);
    reader.load_rows(values, call.values + cache, first, part.end);  // under way while scores are made
    A score[Reader::together], top = max;
    reader.multiply(score, query, keys);
#pragma unroll
    for (int u = 0; u < Reader::together; ++u) {
      score[u] = reader.row_of(first, u) < part.end ? score[u] * to_log2 : -INFINITY;
      top = larger(top, score[u]);
    }
    const A base = base_of(top), rescale = power_of_two(max - base);
    max = top;
    sum *= rescale;
    Reader::scale(sums, rescale);
#pragma unroll
    for (int u = 0; u < Reader::together; ++u) {
      const A p = power_of_two(score[u] - base);
      sum += p;
      Reader::add(sums, p, values[u]);
    }
  }
  store_part(call, results, parts, part, reader, max, sum, sums);
}

/// Block (token and head) makes the result of its parts, in their order.
template <class T>
__global__ void __launch_bounds__(32 * cache_warps) merge_parts_kernel(CachedAttention<T> call, CacheResults<accumulate_t<T>> results, CacheParts parts) {
  ptx::begin_kernel();
  const int dims = call.shape.dims, item = static_cast<int>(blockIdx.x), n = item / call.shape.heads;
  const CachedSequence* sequence = sequence_of(call.sequences, call.count, n);
  if (!sequence) return;
  const auto from = results.of(item, parts.most, dims);
#pragma unroll 1
  for (int d = static_cast<int>(threadIdx.x); d < dims; d += 32 * cache_warps) {
    const auto all = from.template merged<8>(parts.count(call.scored(*sequence, n)), d);
    call.out[std::int64_t{item} * dims + d] = ptx::narrow<T>(all.value / all.sum);
  }
}

/// The parts of a call on rows that CacheReader takes `stride` at a time.
template <class T>
CacheParts parts_of(const CachedAttention<T>& call, std::int64_t most, int stride) {
  return {static_cast<int>(larger<std::int64_t>(1, smaller(most, ceil_div(call.capacity, 2 * stride)))), stride};
}
template <class T>
Launch parts_launch(std::string_view name, const CachedAttention<T>& call, CacheParts parts) {
  const auto kept = static_cast<std::size_t>(larger(cache_warps * (call.shape.dims + 2), 32));
  return {.name = name, .early = true, .blocks = std::int64_t{call.shape.length} * call.shape.heads, .threads = 32 * cache_warps, .shared_bytes = kept * sizeof(accumulate_t<T>), .blocks_y = parts.most};
}
template <class T>
void merge_parts(Device& device, const CachedAttention<T>& call, const CacheResults<accumulate_t<T>>& results, CacheParts parts) {
  if (parts.most > 1) launch(device, {.name = "merge_parts", .early = true, .blocks = std::int64_t{call.shape.length} * call.shape.heads, .threads = 32 * cache_warps}, merge_parts_kernel<T>, call, results, parts);
}

/// Starts both kernels; `most_parts` 1 is for tokens that fill the GPU as they are.
template <int HeadDim, int Width, class T>
void start_parts(Device& device, const CachedAttention<T>& call, std::int64_t most_parts) {
  const CacheParts parts = parts_of(call, most_parts, CacheReader<T, HeadDim, Width>::stride);
  CacheResults<accumulate_t<T>> results;
  if (parts.most > 1) {
    Arena measure;
    results.lay_out(measure, call, parts);
    Arena arena(device.workspace<std::byte>(static_cast<std::int64_t>(measure.used())), measure.used());
    results.lay_out(arena, call, parts);
  }
  launch(device, parts_launch("attend_parts", call, parts), attend_parts_kernel<T, HeadDim, Width>, call, results, parts);
  merge_parts(device, call, results, parts);
}

}  // namespace golem::cuda
