// What kernels of matrix instructions make of their scores: hidden pairs, dropout and the online softmax; and where results go.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "golem/core/math.hpp"
#include "golem/cuda/attention_mask.cuh"
#include "golem/cuda/attention_shape.cuh"
#include "golem/cuda/attention_tile.cuh"

namespace golem::cuda {

/// What a query sees of the keys from `key` on: KeyRange::sees without branches, for many keys a known distance away.
struct SeenFrom {
  unsigned behind, width, context_behind, context_width;

  __device__ SeenFrom(const KeyRange& range, int key)
      : behind(static_cast<unsigned>(key - range.first)),
        width(static_cast<unsigned>(larger(range.last - range.first, 0))),
        context_behind(static_cast<unsigned>(key - range.context_first)),
        context_width(static_cast<unsigned>(larger(range.context_last - range.context_first, 0))) {}
  __device__ bool operator()(int further) const {
    return (behind + static_cast<unsigned>(further) < width) | (context_behind + static_cast<unsigned>(further) < context_width);
  }
};

/// Scores (16, 8 Columns) of hidden pairs become -infinity. A lane's element (n, e) is of query e / 2, which sees range[e / 2], and of
/// key + 8 n + e % 2.
template <int Columns>
__device__ void hide_keys(float (&s)[Columns][4], const KeyRange (&range)[2], int key) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const SeenFrom sees(range[half], key);
#pragma unroll
    for (int n = 0; n < Columns; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e)
        if (!sees(8 * n + e)) s[n][2 * half + e] = -INFINITY;
  }
}

/// The same of `Fragments` where a row is a key: element (n, e) of fragment f is of a query that sees range_of(n, e % 2), and of key own + 16 f + 8 (e / 2).
template <int Fragments, int Columns, class RangeOf>
__device__ void hide_queries(float (*s)[Columns][4], const RangeOf& range_of, int own) {
#pragma unroll
  for (int n = 0; n < Columns; ++n)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const SeenFrom sees(range_of(n, e), own);
#pragma unroll
      for (int f = 0; f < Fragments; ++f) {
        if (!sees(16 * f)) s[f][n][e] = -INFINITY;
        if (!sees(16 * f + 8)) s[f][n][e + 2] = -INFINITY;
      }
    }
}

/// Which probabilities (16 Fragments, 8 Columns) dropout keeps, bit 4 (Columns f + n) + e for element (n, e) of fragment f, that of query
/// own + 16 f + 8 (e / 2) and of key + 8 n + e % 2. A loop, as the draws are long code; drawn where few registers are in use.
template <int Fragments, int Columns, class T>
__device__ std::uint64_t kept_keys(const AttentionShape<T>& shape, int row, int head, int own, int key) {
  static_assert(4 * Fragments * Columns <= 64, "golem: dropout keeps a bit for each probability");
  std::uint64_t kept = 0;
#pragma unroll 1
  for (int i = 0; i < 2 * Fragments * Columns; ++i) {
    float factor[2];
    shape.dropout.factors(factor, shape.element(row, head, own + i / (2 * Columns) * 16 + i % 2 * 8, key + i / 2 % Columns * 8));
    kept |= std::uint64_t{factor[0] != 0} << 2 * i | std::uint64_t{factor[1] != 0} << (2 * i + 1);
  }
  return kept;
}

/// The same where a row is a key: element (n, e) of fragment f is of query + 8 n + e % 2, and of key own + 16 f + 8 (e / 2).
template <int Fragments, int Columns, class T>
__device__ std::uint32_t kept_queries(const AttentionShape<T>& shape, int row, int head, int query, int own) {
  static_assert(4 * Fragments * Columns <= 32, "golem: dropout keeps a bit for each probability");
  std::uint32_t kept = 0;
#pragma unroll 1
  for (int i = 0; i < 4 * Fragments * Columns; ++i)
    kept |= std::uint32_t{shape.dropout.factor(shape.element(row, head, query + i / 4 % Columns * 8 + i % 2, own + i / (4 * Columns) * 16 + i % 4 / 2 * 8)) != 0} << i;
  return kept;
}

/// The softmax of 16 queries so far: of rows lane / 4 and lane / 4 + 8, in the four lanes that share a row.
struct OnlineSoftmax {
  float max[2]{-INFINITY, -INFINITY}, sum[2]{};  // the sum of this lane's columns

  /// Scores become exp(scale * score - max); `rescale` is what earlier results are to be multiplied by.
  template <int Columns>
  __device__ void meet(float (&s)[Columns][4], float (&rescale)[2], float scale) {
    const float to_log2 = scale * log2_e<float>;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = max[half];
#pragma unroll
      for (int n = 0; n < Columns; ++n) top = fmaxf(top, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
      top = fmaxf(top, ptx::shuffle_xor(top, 1));
      top = fmaxf(top, ptx::shuffle_xor(top, 2));
      rescale[half] = max[half] == -INFINITY ? 0.0f : ptx::exp2_fast((max[half] - top) * to_log2);
      const float base = top == -INFINITY ? 0.0f : top * to_log2;  // a query that has seen no key yet
      float total = 0;
#pragma unroll
      for (int n = 0; n < Columns; ++n)
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) total += s[n][e] = ptx::exp2_fast(s[n][e] * to_log2 - base);
      sum[half] = sum[half] * rescale[half] + total;
      max[half] = top;
    }
  }
  /// The sum over the row's lanes; every lane takes part.
  __device__ float total(int half) const {
    float all = sum[half] + ptx::shuffle_xor(sum[half], 1);
    return all + ptx::shuffle_xor(all, 2);
  }
};

/// Ends the forward of this lane's two queries `own`: o, of which their softmax has the sums, goes to out (N, H, D), and their log-sum-exp to
/// log_sum (B, H, T), unless null.
template <class T, int Columns>
__device__ void store_attended(T* out, float* log_sum, const float (&o)[Columns][4], const OnlineSoftmax& softmax, const int (&own)[2], int row, int head, const AttentionShape<T>& shape) {
  float inverse[2];
  T* to[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float sum = softmax.total(half);
    inverse[half] = sum == 0 ? 0.0f : 1 / sum;  // 0: outside every window
    const bool here = own[half] < shape.length;
    to[half] = here ? out + ((std::int64_t{row} * shape.length + own[half]) * shape.heads + head) * shape.dims : nullptr;
    if (log_sum && here && ptx::lane() % 4 == 0)
      log_sum[(std::int64_t{row} * shape.heads + head) * shape.length + own[half]] = sum == 0 ? 0.0f : softmax.max[half] * shape.score_scale + logf(sum);
  }
  store_product(to[0], to[1], o, inverse[0], inverse[1], shape.dims);
}

/// Ends a backward of this lane's two rows `own` and `own` + 8: columns of d query, d key or d value, parts 0, 1 and 2, from dim `first_dim`
/// on, times `scale`, to dqkv (N, G, S + 2, D).
template <class T, int Columns>
__device__ void store_gradient(const AttentionGradient<T>& g, const float (&c)[Columns][4], int row, int own, int head, int part, int first_dim, float scale) {
  const AttentionShape<T>& shape = g.shape;
  T* to[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = own + 8 * half;
    to[half] = i < shape.length ? g.dqkv + shape.at(std::int64_t{row} * shape.length + i, head, part) + first_dim : nullptr;
  }
  store_product(to[0], to[1], c, scale, scale, shape.dims - first_dim);
}

}  // namespace golem::cuda
