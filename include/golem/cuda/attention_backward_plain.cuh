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

inline constexpr unsigned warp_dots = 4;  // of output_dots_kernel, whose loads are under way at once

/// delta (B, H, T): dout . out of each query and head. A row takes `row_blocks` blocks.
template <class T, int Width>
__global__ void __launch_bounds__(32 * plain_warps) output_dots_kernel(accumulate_t<T>* delta, const T* dout, const T* out, AttentionShape<T> shape, unsigned row_blocks) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  const unsigned row = blockIdx.x / row_blocks, heads = static_cast<unsigned>(shape.heads), items = static_cast<unsigned>(shape.length) * heads;  // an item: a token's head
  const unsigned first = (blockIdx.x % row_blocks * plain_warps + threadIdx.x / 32) * warp_dots, lane = static_cast<unsigned>(ptx::lane());
  const std::int64_t start = (std::int64_t{row} * items + first) * shape.dims;
  A dots[warp_dots]{};
  for (int d = static_cast<int>(lane) * Width; d < shape.dims; d += 32 * Width) {
    A a[warp_dots][Width]{}, b[warp_dots][Width]{};
#pragma unroll
    for (unsigned i = 0; i < warp_dots; ++i)
      if (first + i < items) load(a[i], dout + start + static_cast<int>(i) * shape.dims + d), load(b[i], out + start + static_cast<int>(i) * shape.dims + d);
#pragma unroll
    for (unsigned i = 0; i < warp_dots; ++i)
#pragma unroll
      for (int w = 0; w < Width; ++w) dots[i] += a[i][w] * b[i][w];
  }
#pragma unroll
  for (unsigned i = 0; i < warp_dots; ++i) {
    const A dot = warp_sum(dots[i]);
    const unsigned item = first + i;
    if (lane == i && item < items) delta[(std::int64_t{row} * heads + item % heads) * shape.length + item / heads] = dot;
  }
}

/// Starts it.
template <class T>
void find_output_dots(Device& device, accumulate_t<T>* delta, const T* dout, const T* out, const AttentionShape<T>& shape) {
  constexpr int width = sizeof(T) == 2 ? 4 : wide<T>;
  const bool vectors = shape.dims % width == 0 && reinterpret_cast<std::uintptr_t>(dout) % 16 == 0 && reinterpret_cast<std::uintptr_t>(out) % 16 == 0;
  const std::int64_t row_blocks = ceil_div(std::int64_t{shape.length} * shape.heads, static_cast<std::int64_t>(plain_warps * warp_dots));
  launch(device, {.name = "output_dots", .early = true, .blocks = shape.rows * row_blocks, .threads = 32 * plain_warps}, vectors ? output_dots_kernel<T, width> : output_dots_kernel<T, 1>, delta, dout, out,
         shape, static_cast<unsigned>(row_blocks));
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
