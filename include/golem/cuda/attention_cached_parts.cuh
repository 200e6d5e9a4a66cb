// Attention of a few new tokens to a key-value cache: blocks take parts of the cache that a token and a head see, and a second kernel merges them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "golem/core/buffer.hpp"
#include "golem/core/math.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/cuda/attention_plain.cuh"
#include "golem/cuda/device.hpp"
#include "golem/cuda/launch.hpp"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

/// The sequence that new token `n` belongs to; null where it belongs to none. Found at once where each sequence has one.
__device__ inline const CachedSequence* sequence_of(const CachedSequence* sequences, int count, std::int64_t n) {
  for (int i = 0, s = n < count ? static_cast<int>(n) : 0; i < count; ++i, s = s + 1 < count ? s + 1 : 0)
    if (n >= sequences[s].row && n < sequences[s].row + sequences[s].count) return sequences + s;
  return nullptr;
}

/// What attention to a cache reads and writes.
template <class T>
struct CachedAttention {
  T* out;                         // (N, H, D)
  const T *qkv, *keys, *values;   // (N, H, 3, D), (slots, H, capacity, D) twice
  const CachedSequence* sequences;
  int count, capacity;            // of the sequences; of each slot, in tokens
  AttentionShape<T> shape;        // one row of all new tokens

  /// How many keys of its cache new token `n` sees: those from the first on.
  __device__ int seen(const CachedSequence& s, int n) const {
    const int own = s.first + n - s.row + 1;
    return smaller(larger(own, s.prefix), smaller(s.first + s.count, capacity));
  }
  /// Where the keys, and the values, of a head of a sequence begin.
  __device__ std::int64_t cache(const CachedSequence& s, int head) const { return (std::int64_t{s.slot} * shape.heads + head) * capacity * shape.dims; }
};

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
  /// Dim d of all of them, in their order.
  __device__ Merged merged(int parts, int d) const {
    A top = -INFINITY;
#pragma unroll 8
    for (int i = 0; i < parts; ++i) top = larger(top, max[i]);
    Merged all{top, 0, 0};
#pragma unroll 8
    for (int i = 0; i < parts; ++i) {
      const A weight = power_of_two(max[i] - base_of(top));
      all.sum += weight * sum[i];
      all.value += weight * values[std::int64_t{i} * dims + d];
    }
    return all;
  }
};

/// How the keys that a token sees are cut: in at most `most` parts of whole strides, none of them empty. Depends on nothing
/// but the shape of the cache and the GPU, so that a sequence gets the same bits in any company, and from a graph.
struct CacheParts {
  int most = 1, stride = 1;  // keys that a block reads at once

  // in 32 bits: a GPU divides 64 in a hundred instructions
  __device__ int keys(int seen) const { return ((larger(seen, 1) + stride - 1) / stride + most - 1) / most * stride; }
  __device__ int count(int seen) const { return (seen + keys(seen) - 1) / keys(seen); }
};

/// The parts of all new tokens, between the two kernels; `parts` of each are there, and as many as it needs are filled.
template <class A>
struct CacheResults {
  A *max = nullptr, *sum = nullptr, *values = nullptr;  // (N, H, parts), (N, H, parts), (N, H, parts, D)

  static CacheResults in(Device& device, std::int64_t items, int parts, std::int64_t dims) {
    A* memory = device.workspace<A>(items * parts * (dims + 2));
    return {memory, memory + items * parts, memory + 2 * items * parts};
  }
  __device__ PartialSoftmaxes<A> of(std::int64_t item, int parts, int dims) const { return {max + item * parts, sum + item * parts, values + item * parts * dims, dims}; }
};

inline constexpr int cache_warps = 4;        // of a block
inline constexpr int cache_blocks = 8;       // of them on a multiprocessor, which hides the latency of memory

/// How a warp reads keys of up to HeadDim dims, Width elements a load: `groups` keys side by side, `together` times before it waits.
template <int HeadDim, int Width>
struct CacheLanes {
  static constexpr int lanes = HeadDim / Width < 32 ? HeadDim / Width : 32;  // that share a key
  static constexpr int chunks = HeadDim / Width / lanes;                     // of a key in each
  static constexpr int groups = 32 / lanes;
  static constexpr int together = chunks < 4 ? 4 / chunks : 1;
  static constexpr int warp_keys = groups * together;
  static constexpr int stride = cache_warps * warp_keys;
};

/// Block (token and head, part) makes one partial softmax, or, where there is one part, the result.
template <class T, int HeadDim, int Width>
__global__ void __launch_bounds__(32 * cache_warps, sizeof(T) == 8 || Width == 1 ? cache_blocks / 2 : cache_blocks) attend_parts_kernel(CachedAttention<T> call, CacheResults<accumulate_t<T>> results, CacheParts parts) {
  using A = accumulate_t<T>;
  using Lanes = CacheLanes<HeadDim, Width>;
  using Chunk = Pack<T, Width>;
  const int dims = call.shape.dims, heads = call.shape.heads, warp = static_cast<int>(threadIdx.x / 32), group = ptx::lane() / Lanes::lanes, own = ptx::lane() % Lanes::lanes * Width;
  const int item = static_cast<int>(blockIdx.x), n = item / heads, head = item % heads;
  const CachedSequence* sequence = sequence_of(call.sequences, call.count, n);
  if (!sequence) return;
  const int seen = call.seen(*sequence, n), size = parts.keys(seen), begin = static_cast<int>(blockIdx.y) * size, end = smaller(seen, begin + size);
  if (begin >= end) return;

  // A lane's chunk beyond the last dim is another's, and does not count.
  A query[Lanes::chunks][Width], sums[Lanes::chunks][Width]{};
  int place[Lanes::chunks];
#pragma unroll
  for (int c = 0; c < Lanes::chunks; ++c) {
    const int d = own + c * Lanes::lanes * Width;
    place[c] = d < dims ? d : 0;
    load(query[c], call.qkv + call.shape.at(n, head, 0) + place[c]);
#pragma unroll
    for (int w = 0; w < Width; ++w) query[c][w] = rounded<T>(query[c][w] * call.shape.query_scale);
  }
  const T *keys = call.keys + call.cache(*sequence, head), *values = call.values + call.cache(*sequence, head);
  const A to_log2 = call.shape.score_scale * static_cast<A>(1.4426950408889634);
  A max = -INFINITY, sum = 0;
  for (int first = begin + warp * Lanes::warp_keys; first < end; first += Lanes::stride) {
    Chunk k[Lanes::together][Lanes::chunks], v[Lanes::together][Lanes::chunks];
#pragma unroll
    for (int u = 0; u < Lanes::together; ++u) {
      const std::int64_t from = std::int64_t{smaller(first + u * Lanes::groups + group, end - 1)} * dims;
#pragma unroll
      for (int c = 0; c < Lanes::chunks; ++c) {
        k[u][c] = *reinterpret_cast<const Chunk*>(keys + from + place[c]);
        v[u][c] = *reinterpret_cast<const Chunk*>(values + from + place[c]);
      }
    }
    A score[Lanes::together];
#pragma unroll
    for (int u = 0; u < Lanes::together; ++u) {
      score[u] = 0;
#pragma unroll
      for (int c = 0; c < Lanes::chunks; ++c) {
        A dot = 0;
#pragma unroll
        for (int w = 0; w < Width; ++w) dot += query[c][w] * static_cast<A>(ptx::widen(k[u][c].element[w]));
        if (own + c * Lanes::lanes * Width < dims) score[u] += dot;
      }
    }
#pragma unroll
    for (int lanes = Lanes::lanes / 2; lanes > 0; lanes /= 2)
#pragma unroll
      for (int u = 0; u < Lanes::together; ++u) score[u] += ptx::shuffle_xor(score[u], lanes);
    A top = max;
#pragma unroll
    for (int u = 0; u < Lanes::together; ++u) {
      score[u] = first + u * Lanes::groups + group < end ? score[u] * to_log2 : -INFINITY;
      top = larger(top, score[u]);
    }
    const A base = base_of(top), rescale = power_of_two(max - base);
    max = top;
    sum *= rescale;
#pragma unroll
    for (int c = 0; c < Lanes::chunks; ++c)
#pragma unroll
      for (int w = 0; w < Width; ++w) sums[c][w] *= rescale;
#pragma unroll
    for (int u = 0; u < Lanes::together; ++u) {
      const A p = power_of_two(score[u] - base);
      sum += p;
#pragma unroll
      for (int c = 0; c < Lanes::chunks; ++c)
#pragma unroll
        for (int w = 0; w < Width; ++w) sums[c][w] += p * static_cast<A>(ptx::widen(v[u][c].element[w]));
    }
  }

  // The warp's groups become one, then the block's warps.
#pragma unroll
  for (int lanes = Lanes::lanes; lanes < 32; lanes *= 2) {
    const A other = ptx::shuffle_xor(max, lanes), top = larger(max, other), rescale = power_of_two(max - base_of(top));
    max = top;
    sum *= rescale;
    sum += ptx::shuffle_xor(sum, lanes);
#pragma unroll
    for (int c = 0; c < Lanes::chunks; ++c)
#pragma unroll
      for (int w = 0; w < Width; ++w) {
        sums[c][w] *= rescale;
        sums[c][w] += ptx::shuffle_xor(sums[c][w], lanes);
      }
  }
  A* shared = dynamic_shared<A>();
  const PartialSoftmaxes<A> warps{shared, shared + cache_warps, shared + 2 * cache_warps, dims};
  if (ptx::lane() == 0) warps.max[warp] = max, warps.sum[warp] = sum;
  if (group == 0) {
#pragma unroll
    for (int c = 0; c < Lanes::chunks; ++c)
#pragma unroll
      for (int w = 0; w < Width; ++w)
        if (const int d = own + c * Lanes::lanes * Width + w; d < dims) warps.values[warp * dims + d] = sums[c][w];
  }
  __syncthreads();
  const PartialSoftmaxes<A> to = results.of(item, parts.most, dims);
#pragma unroll 1
  for (int d = static_cast<int>(threadIdx.x); d < dims; d += 32 * cache_warps) {
    const auto all = warps.merged(cache_warps, d);
    if (parts.most == 1) {
      call.out[std::int64_t{item} * dims + d] = ptx::narrow<T>(all.value / all.sum);
    } else {
      to.values[std::int64_t{blockIdx.y} * dims + d] = all.value;
      if (d == 0) to.max[blockIdx.y] = all.max, to.sum[blockIdx.y] = all.sum;
    }
  }
}

/// Block (token and head) makes the result of its parts, in their order.
template <class T>
__global__ void __launch_bounds__(32 * cache_warps) merge_parts_kernel(CachedAttention<T> call, CacheResults<accumulate_t<T>> results, CacheParts parts) {
  const int dims = call.shape.dims, item = static_cast<int>(blockIdx.x), n = item / call.shape.heads;
  const CachedSequence* sequence = sequence_of(call.sequences, call.count, n);
  if (!sequence) return;
  const auto from = results.of(item, parts.most, dims);
#pragma unroll 1
  for (int d = static_cast<int>(threadIdx.x); d < dims; d += 32 * cache_warps) {
    const auto all = from.merged(parts.count(call.seen(*sequence, n)), d);
    call.out[std::int64_t{item} * dims + d] = ptx::narrow<T>(all.value / all.sum);
  }
}

/// Starts both kernels; `most_parts` 1 is for tokens that fill the GPU as they are.
template <int HeadDim, int Width, class T>
void start_parts(Device& device, const CachedAttention<T>& call, std::int64_t most_parts) {
  using A = accumulate_t<T>;
  constexpr int stride = CacheLanes<HeadDim, Width>::stride;
  const std::int64_t items = std::int64_t{call.shape.length} * call.shape.heads, dims = call.shape.dims;
  const CacheParts parts{static_cast<int>(larger<std::int64_t>(1, smaller(most_parts, ceil_div(call.capacity, 2 * stride)))), stride};
  const auto results = parts.most > 1 ? CacheResults<A>::in(device, items, parts.most, dims) : CacheResults<A>{};
  const Launch how{.name = "attend_parts", .blocks = items, .threads = 32 * cache_warps, .shared_bytes = cache_warps * static_cast<std::size_t>(dims + 2) * sizeof(A), .blocks_y = parts.most};
  launch(device, how, attend_parts_kernel<T, HeadDim, Width>, call, results, parts);
  if (parts.most > 1) launch(device, {.name = "merge_parts", .blocks = items, .threads = 32 * cache_warps}, merge_parts_kernel<T>, call, results, parts);
}

}  // namespace golem::cuda
