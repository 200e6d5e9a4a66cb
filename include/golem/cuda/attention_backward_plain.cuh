// The backward of attention without matrix instructions: d query by a warp for each query, d key and d value by one for each key.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/core/number.hpp"
#include "golem/cuda/attention_mask.cuh"
#include "golem/cuda/attention_plain.cuh"
#include "golem/cuda/attention_shape.cuh"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

/// delta (B, H, T): dout . out of each query and head.
template <class T>
__global__ void __launch_bounds__(32 * plain_warps) output_dots_kernel(accumulate_t<T>* delta, const T* dout, const T* out, AttentionShape<T> shape) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  const std::int64_t item = std::int64_t{blockIdx.x} * plain_warps + threadIdx.x / 32;  // token, head
  if (item >= std::int64_t{shape.rows} * shape.heads * shape.length) return;
  A dot = 0;
  for (int d = ptx::lane(); d < shape.dims; d += 32) dot += static_cast<A>(ptx::widen(dout[item * shape.dims + d])) * static_cast<A>(ptx::widen(out[item * shape.dims + d]));
  dot = warp_sum(dot);
  const std::int64_t token = item / shape.heads, head = item % shape.heads;
  if (ptx::lane() == 0) delta[(token / shape.length * shape.heads + head) * shape.length + token % shape.length] = dot;
}

/// d query: a warp takes a query, its lanes a key each.
template <class T>
__global__ void __launch_bounds__(32 * plain_warps) attend_plain_dquery_kernel(AttentionGradient<T> g) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  const AttentionShape<T>& shape = g.shape;
  const int lane = ptx::lane(), dims = shape.dims;
  A* query = dynamic_shared<A>() + threadIdx.x / 32 * dims;
  const auto [item, i, head, row, start, token] = HeadToken(shape, plain_warps, shape.heads);
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

/// d key and d value: a warp takes a key, its lanes a query each, of one sharing head after the other.
template <class T>
__global__ void __launch_bounds__(32 * plain_warps) attend_plain_dkey_kernel(AttentionGradient<T> g) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  const AttentionShape<T>& shape = g.shape;
  const int lane = ptx::lane(), dims = shape.dims;
  const auto [item, key, key_head, row, start, token] = HeadToken(shape, plain_warps, shape.key_heads());
  if (row >= shape.rows) return;
  const int first_head = key_head * shape.sharers, tile_count = shape.tiles();
  const T* k = g.qkv + shape.at(start + key, first_head, 1);
  A dkey[lane_dims]{}, dvalue[lane_dims]{};
  for (int head = first_head; head < first_head + shape.sharers; ++head) {
    for (int begin = 0; begin < shape.length; begin += 32) {
      if (!g.tiles[row * tile_count + begin / tile_queries].see_some(key, 1)) continue;
      const std::int64_t own = (std::int64_t{row} * shape.heads + head) * shape.length;
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
  }
  store_dims(g.dqkv + shape.at(start + key, first_head, 1), dkey, dims, shape.score_scale);
  store_dims(g.dqkv + shape.at(start + key, first_head, 2), dvalue, dims);
}

}  // namespace golem::cuda
