// Attention without matrix instructions: a warp takes a query, or a key. For fp32, fp64, and odd head dims.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

#include "golem/core/error.hpp"
#include "golem/core/math.hpp"
#include "golem/core/number.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/attention_mask.cuh"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

inline constexpr int plain_warps = 4;        // of a block
inline constexpr int most_head_dims = 256;
inline constexpr int lane_dims = most_head_dims / 32;  // that a lane may hold

/// Calls body.operator()<HeadDim>() with the narrowest HeadDim that kernels exist for.
template <class Body>
void with_head_dim(std::int64_t dims, const Body& body) {
  if (dims <= 64) body.template operator()<64>();
  else if (dims <= 128) body.template operator()<128>();
  else body.template operator()<256>();
}

/// Where heads lie and what scales their scores, for every kernel of attention.
template <class T>
struct AttentionShape {
  using A = accumulate_t<T>;
  int rows, length, heads, dims;  // B, T, H, D
  A query_scale;                  // scale / layer_scale, before the query is rounded
  A score_scale;                  // layer_scale
  A scale;                        // scale
  ProbabilityDropout<A> dropout;
  std::int64_t first_head, all_heads;  // head 0 here is head first_head of all ranks' heads: masks do not depend on who has which
  std::int64_t mask_tokens;            // in each row: nor on how far rows are padded

  __device__ std::int64_t token_step() const { return std::int64_t{3} * heads * dims; }  // of qkv
  /// Element (token, head, part, 0) of qkv (N, H, 3, D).
  __device__ std::int64_t at(std::int64_t token, int head, int part) const { return ((token * heads + head) * 3 + part) * dims; }
  __device__ std::uint64_t element(int row, int head, int query, int key) const {
    return (static_cast<std::uint64_t>(row * all_heads + first_head + head) * mask_tokens + query) * mask_tokens + key;
  }
};

/// Which token of which head of which row a warp works on.
struct HeadToken {
  std::int64_t item;         // of (B, H, T)
  int index, head, row;      // in its row
  std::int64_t start, token; // of all tokens: the row's first, its own

  template <class T>
  __device__ HeadToken(const AttentionShape<T>& shape, int warps)
      : item(std::int64_t{blockIdx.x} * warps + threadIdx.x / 32),
        index(static_cast<int>(item % shape.length)),
        head(static_cast<int>(item / shape.length % shape.heads)),
        row(static_cast<int>(item / shape.length / shape.heads)),
        start(std::int64_t{row} * shape.length),
        token(start + index) {}
};

template <class T>
AttentionShape<T> attention_shape(const View<const T, 4>& qkv, int rows, const AttentionOptions& options) {
  using A = accumulate_t<T>;
  require(qkv.extent(3) <= most_head_dims, "attention on the GPU was given heads of ", qkv.extent(3), " dims: at most ", most_head_dims);
  return {rows,
          static_cast<int>(qkv.extent(0) / rows),
          static_cast<int>(qkv.extent(1)),
          static_cast<int>(qkv.extent(3)),
          options.rounding == Rounding::once ? static_cast<A>(options.scale) / static_cast<A>(options.layer_scale) : 1 / static_cast<A>(options.layer_scale / options.scale),
          static_cast<A>(options.layer_scale),
          static_cast<A>(options.scale),
          probability_dropout<A>(options),
          options.first_head,
          options.heads ? options.heads : qkv.extent(1),
          options.tokens ? options.tokens : qkv.extent(0) / rows};
}

/// A warp for each of `count` queries or keys.
template <class A>
Launch plain_launch(std::string_view name, std::int64_t count, std::int64_t dims) {
  return {.name = name, .blocks = ceil_div(count, plain_warps), .threads = 32 * plain_warps, .shared_bytes = plain_warps * static_cast<std::size_t>(dims) * sizeof(A)};
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

template <class T>
__device__ void store_dims(T* to, const accumulate_t<T> (&x)[lane_dims], int dims, accumulate_t<T> scale = 1) {
  for (int r = 0, d = ptx::lane(); d < dims; ++r, d += 32) to[d] = ptx::narrow<T>(x[r] * scale);
}

/// out (N, H, D) and log_sum (B, H, T), unless null, from qkv (N, H, 3, D).
template <class T>
__global__ void __launch_bounds__(32 * plain_warps) attend_plain_kernel(T* out, accumulate_t<T>* log_sum, const T* qkv, const KeyRange* ranges, AttentionShape<T> shape) {
  using A = accumulate_t<T>;
  A* query = dynamic_shared<A>() + threadIdx.x / 32 * shape.dims;
  const auto [item, i, head, row, start, token] = HeadToken(shape, plain_warps);
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

/// delta (B, H, T): dout . out of each query and head.
template <class T>
__global__ void __launch_bounds__(32 * plain_warps) output_dots_kernel(accumulate_t<T>* delta, const T* dout, const T* out, AttentionShape<T> shape) {
  using A = accumulate_t<T>;
  const std::int64_t item = std::int64_t{blockIdx.x} * plain_warps + threadIdx.x / 32;  // token, head
  if (item >= std::int64_t{shape.rows} * shape.heads * shape.length) return;
  A dot = 0;
  for (int d = ptx::lane(); d < shape.dims; d += 32) dot += static_cast<A>(ptx::widen(dout[item * shape.dims + d])) * static_cast<A>(ptx::widen(out[item * shape.dims + d]));
  dot = warp_sum(dot);
  const std::int64_t token = item / shape.heads, head = item % shape.heads;
  if (ptx::lane() == 0) delta[(token / shape.length * shape.heads + head) * shape.length + token % shape.length] = dot;
}

template <class T>
struct AttentionGradient {
  T* dqkv;
  const T *dout, *qkv;
  const accumulate_t<T>*log_sum, *delta;  // (B, H, T)
  const KeyRange* ranges;
  const TileKeys* tiles;
  AttentionShape<T> shape;
};

/// A probability and its gradient, from the score of its query and key and from dout . value.
template <class A>
struct Probability {
  A p, kept, ds;  // p; p after dropout; d loss / d score

  __device__ Probability(A score, A dp, A log_sum, A delta, A factor) : p(exponential(score - log_sum)), kept(p * factor), ds(p * (dp * factor - delta)) {}
};

/// d query: a warp takes a query, its lanes a key each.
template <class T>
__global__ void __launch_bounds__(32 * plain_warps) attend_plain_dquery_kernel(AttentionGradient<T> g) {
  using A = accumulate_t<T>;
  const AttentionShape<T>& shape = g.shape;
  const int lane = ptx::lane(), dims = shape.dims;
  A* query = dynamic_shared<A>() + threadIdx.x / 32 * dims;
  const auto [item, i, head, row, start, token] = HeadToken(shape, plain_warps);
  if (row >= shape.rows) return;
  load_query(query, g.qkv + shape.at(token, head, 0), shape);
  const T* dout = g.dout + (token * shape.heads + head) * dims;
  const KeyRange range = g.ranges[token];
  A sums[lane_dims]{};
  for (int part = 0; part < 2; ++part)
    for (int begin = range.begin(part), last = range.end(part); begin < last; begin += 32) {
      const int key = begin + lane;
      A ds = 0;
      if (key < last) {
        const T* k = g.qkv + shape.at(start + key, head, 1);
        A score = 0, dp = 0;
        for (int d = 0; d < dims; ++d) {
          score += query[d] * static_cast<A>(ptx::widen(k[d]));
          dp += static_cast<A>(ptx::widen(dout[d])) * static_cast<A>(ptx::widen(k[dims + d]));
        }
        const A factor = shape.dropout.threshold ? shape.dropout.factor(shape.element(row, head, i, key)) : A{1};
        ds = Probability<A>(score * shape.score_scale, dp, g.log_sum[item], g.delta[item], factor).ds;
      }
      for (int l = 0; l < 32 && begin + l < last; ++l) {
        const A weight = ptx::shuffle(ds, l);
        const T* k = g.qkv + shape.at(start + begin + l, head, 1);
        for (int r = 0, d = lane; d < dims; ++r, d += 32) sums[r] += weight * static_cast<A>(ptx::widen(k[d]));
      }
    }
  store_dims(g.dqkv + shape.at(token, head, 0), sums, dims, shape.scale);
}

/// d key and d value: a warp takes a key, its lanes a query each.
template <class T>
__global__ void __launch_bounds__(32 * plain_warps) attend_plain_dkey_kernel(AttentionGradient<T> g) {
  using A = accumulate_t<T>;
  const AttentionShape<T>& shape = g.shape;
  const int lane = ptx::lane(), dims = shape.dims;
  const auto [item, key, head, row, start, token] = HeadToken(shape, plain_warps);
  if (row >= shape.rows) return;
  const std::int64_t own = item - key;
  const T* k = g.qkv + shape.at(start + key, head, 1);
  A dkey[lane_dims]{}, dvalue[lane_dims]{};
  for (int begin = 0; begin < shape.length; begin += 32) {
    if (!g.tiles[row * ((shape.length + tile_queries - 1) / tile_queries) + begin / tile_queries].see_some(key, 1)) continue;
    const int i = begin + lane;
    A ds = 0, kept = 0;
    if (i < shape.length && g.ranges[start + i].sees(key)) {
      const T* q = g.qkv + shape.at(start + i, head, 0);
      const T* dout = g.dout + ((start + i) * shape.heads + head) * dims;
      A score = 0, dp = 0;
      for (int d = 0; d < dims; ++d) {
        score += rounded<T>(static_cast<A>(ptx::widen(q[d])) * shape.query_scale) * static_cast<A>(ptx::widen(k[d]));
        dp += static_cast<A>(ptx::widen(dout[d])) * static_cast<A>(ptx::widen(k[dims + d]));
      }
      const A factor = shape.dropout.threshold ? shape.dropout.factor(shape.element(row, head, i, key)) : A{1};
      const Probability<A> p(score * shape.score_scale, dp, g.log_sum[own + i], g.delta[own + i], factor);
      ds = p.ds, kept = p.kept;
    }
    for (int l = 0; l < 32 && begin + l < shape.length; ++l) {
      const A slope = ptx::shuffle(ds, l), weight = ptx::shuffle(kept, l);
      const T* q = g.qkv + shape.at(start + begin + l, head, 0);
      const T* dout = g.dout + ((start + begin + l) * shape.heads + head) * dims;
      for (int r = 0, d = lane; d < dims; ++r, d += 32) {
        dkey[r] += slope * rounded<T>(static_cast<A>(ptx::widen(q[d])) * shape.query_scale);
        dvalue[r] += weight * static_cast<A>(ptx::widen(dout[d]));
      }
    }
  }
  store_dims(g.dqkv + shape.at(start + key, head, 1), dkey, dims, shape.score_scale);
  store_dims(g.dqkv + shape.at(start + key, head, 2), dvalue, dims);
}

}  // namespace golem::cuda
