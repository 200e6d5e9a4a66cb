// The forward of attention without matrix instructions: a warp takes a query. For what tiles do not take: odd dims of 16 bits, and many of fp32 and fp64.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

#include "golem/core/math.hpp"
#include "golem/core/number.hpp"
#include "golem/cuda/attention_mask.cuh"
#include "golem/cuda/attention_shape.cuh"
#include "golem/cuda/launch.hpp"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

inline constexpr int plain_warps = 4;  // of a block
inline constexpr int lane_dims = most_head_dims / 32;  // that a lane may hold

/// Which token of which head of which row a warp works on.
struct HeadToken {
  std::int64_t item;         // of (B, H, T)
  int index, head, row;      // in its row
  std::int64_t start, token; // of all tokens: the row's first, its own

  template <class T>
  __device__ HeadToken(const AttentionShape<T>& shape, int warps, int heads)
      : item(std::int64_t{blockIdx.x} * warps + threadIdx.x / 32),
        index(static_cast<int>(item % shape.length)),
        head(static_cast<int>(item / shape.length % heads)),
        row(static_cast<int>(item / shape.length / heads)),
        start(std::int64_t{row} * shape.length),
        token(start + index) {}
};

/// A warp for each of `count` queries or keys.
template <class A>
Launch plain_launch(std::string_view name, std::int64_t count, std::int64_t dims) {
  return {.name = name, .early = true, .blocks = ceil_div(count, plain_warps), .threads = 32 * plain_warps, .shared_bytes = plain_warps * static_cast<std::size_t>(dims) * sizeof(A)};
}

/// A query's softmax over the keys of a range, which lie `step` apart, and the values likewise: the warp's lanes score a key
/// each, then add up the dims that are theirs. `query` is in shared memory, scaled and rounded.
template <class T>
struct PlainQuery {
  using A = accumulate_t<T>;
  const A* query;
  const T *keys, *values;
  std::int64_t step;
  KeyRange range;
  std::uint64_t first_element = 0;  // of probability (query, key 0)

  /// out[r] is dim lane + 32 r of the result; returns the log-sum-exp.
  __device__ A attend(A (&out)[lane_dims], const AttentionShape<T>& shape) const {
    const int lane = ptx::lane();
    A max = -INFINITY, sum = 0;
    for (int r = 0; r < lane_dims; ++r) out[r] = 0;
    for (int i = 0; i < 2; ++i)
      for (int begin = range.begin(i), last = range.end(i); begin < last; begin += 32) {
        const int key = begin + lane;
        A score = -INFINITY;
        if (key < last) score = this->score(key, shape.dims) * shape.score_scale;
        const A top = warp_max(score), next = top > max ? top : max, rescale = exponential(max - next);
        A p = exponential(score - next);
        sum = sum * rescale + p;
        max = next;
        if (shape.dropout.threshold && key < last) p *= shape.dropout.factor(first_element + static_cast<std::uint64_t>(key));
        for (int r = 0; r < lane_dims; ++r) out[r] *= rescale;
        add_values(out, p, begin, last, shape.dims);
      }
    sum = warp_sum(sum);
    if (sum == 0) return 0;  // outside every window
    for (int r = 0; r < lane_dims; ++r) out[r] /= sum;
    return max + logarithm(sum);
  }

  __device__ A score(int key, int dims) const {
    A sum = 0;
    const T* k = keys + key * step;
    for (int d = 0; d < dims; ++d) sum += query[d] * static_cast<A>(ptx::widen(k[d]));
    return sum;
  }
  /// Adds the values of the 32 keys from `begin` on, as far as `last`, each weighted by the p of its lane.
  __device__ void add_values(A (&out)[lane_dims], A p, int begin, int last, int dims) const {
    const int lane = ptx::lane();
    for (int l = 0; l < 32 && begin + l < last; ++l) {
      const A weight = ptx::shuffle(p, l);
      const T* v = values + (begin + l) * step;
      for (int r = 0, d = lane; d < dims; ++r, d += 32) out[r] += weight * static_cast<A>(ptx::widen(v[d]));
    }
  }
};

template <class T>
__device__ void load_query(accumulate_t<T>* shared, const T* query, const AttentionShape<T>& shape) {
  using A = accumulate_t<T>;
  for (int d = ptx::lane(); d < shape.dims; d += 32) shared[d] = rounded<T>(static_cast<A>(ptx::widen(query[d])) * shape.query_scale);
  __syncwarp();
}

template <int R, class T>
__device__ void store_dims(T* to, const accumulate_t<T> (&x)[R], int dims, accumulate_t<T> scale = 1) {
#pragma unroll
  for (int r = 0; r < R; ++r)
    if (const int d = ptx::lane() + 32 * r; d < dims) to[d] = ptx::narrow<T>(x[r] * scale);
}

/// out (N, H, D) and log_sum (B, H, T), unless null, from qkv (N, G, S + 2, D).
template <class T>
__global__ void __launch_bounds__(32 * plain_warps) attend_plain_kernel(T* out, accumulate_t<T>* log_sum, const T* qkv, const KeyRange* ranges, AttentionShape<T> shape) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  A* query = dynamic_shared<A>() + threadIdx.x / 32 * shape.dims;
  const auto [item, i, head, row, start, token] = HeadToken(shape, plain_warps, shape.heads);
  if (row >= shape.rows) return;
  load_query(query, qkv + shape.at(token, head, 0), shape);
  const PlainQuery<T> q{query,
                        qkv + shape.at(start, head, 1),
                        qkv + shape.at(start, head, 2),
                        shape.token_step(),
                        ranges[token],
                        shape.element(row, head, i, 0)};
  A sums[lane_dims];
  const A lse = q.attend(sums, shape);
  store_dims(out + (token * shape.heads + head) * shape.dims, sums, shape.dims);
  if (log_sum && ptx::lane() == 0) log_sum[item] = lse;
}

}  // namespace golem::cuda
