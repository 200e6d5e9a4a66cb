// Attention on the GPU with the rounding points of GLM-130B's own code (spec 1.5): scores and probabilities rounded, hidden keys scored -10000.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/cuda/attention_plain.cuh"
#include "golem/cuda/attention_shape.cuh"

namespace golem::cuda {

/// As PlainQuery::attend over a row of `count` keys, in the original's steps: scores rounded to T, their softmax in A, its
/// probabilities rounded to T. They are rounded once their sum is known, so that scores are computed three times and kept nowhere.
template <class T>
__device__ accumulate_t<T> attend_stepwise(const PlainQuery<T>& q, accumulate_t<T> (&out)[lane_dims], int count, const AttentionShape<T>& shape) {
  using A = accumulate_t<T>;
  const int lane = ptx::lane();
  const auto scaled_score = [&](int key) { return q.range.sees(key) ? rounded<T>(q.score(key, shape.dims)) * shape.score_scale : static_cast<A>(hidden_score); };
  A max = -INFINITY, sum = 0;
  for (int key = lane; key < count; key += 32) {
    const A score = scaled_score(key);
    max = score > max ? score : max;
  }
  max = warp_max(max);
  for (int key = lane; key < count; key += 32) sum += exponential(scaled_score(key) - max);
  sum = warp_sum(sum);
  for (int r = 0; r < lane_dims; ++r) out[r] = 0;
  for (int begin = 0; begin < count; begin += 32) {
    const int key = begin + lane;
    q.add_values(out, key < count ? rounded<T>(exponential(scaled_score(key) - max) / sum) : A{0}, begin, count, shape.dims);
  }
  return max + logarithm(sum);
}

/// As attend_plain_kernel.
template <class T>
__global__ void __launch_bounds__(32 * plain_warps) attend_stepwise_kernel(T* out, accumulate_t<T>* log_sum, const T* qkv, const KeyRange* ranges, AttentionShape<T> shape) {
  ptx::begin_kernel();
  using A = accumulate_t<T>;
  A* query = dynamic_shared<A>() + threadIdx.x / 32 * shape.dims;
  const auto [item, i, head, row, start, token] = HeadToken(shape, plain_warps, shape.heads);
  if (row >= shape.rows) return;
  load_query(query, qkv + shape.at(token, head, 0), shape);
  A sums[lane_dims];
  const A lse = attend_stepwise(PlainQuery<T>{query, qkv + shape.at(start, head, 1), qkv + shape.at(start, head, 2), shape.token_step(), ranges[token]}, sums, shape.length, shape);
  store_dims(out + (token * shape.heads + head) * shape.dims, sums, shape.dims);
  if (log_sum && ptx::lane() == 0) log_sum[item] = lse;
}

}  // namespace golem::cuda
