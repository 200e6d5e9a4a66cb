// Which rows of a key-value cache a block of attention reads, and how: a call and its sequences, the parts they are cut in, and loads that overlap.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/core/math.hpp"
#include "golem/core/number.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/cuda/attention_shape.cuh"
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
  T* out;                        // (N, H, D)
  const T *qkv, *keys, *values;  // (N, G, S + 2, D), (slots, G, capacity, D) twice
  const CachedSequence* sequences;
  int count, capacity;  // of the sequences; of each slot, in tokens
  Rounding rounding;
  AttentionShape<T> shape;  // one row of all new tokens

  /// How many keys of its cache new token `n` sees: those from the first on.
  __device__ int seen(const CachedSequence& s, int n) const {
    const int own = s.first + n - s.row + 1;
    return smaller(larger(own, s.prefix), smaller(s.first + s.count, capacity));
  }
  /// How many its softmax is over: in the original's steps hidden keys have a score as well.
  __device__ int scored(const CachedSequence& s, int n) const { return rounding == Rounding::stepwise ? smaller(s.first + s.count, capacity) : seen(s, n); }
  /// Where the keys, and the values, that a head of a sequence attends to begin.
  __device__ std::int64_t cache(const CachedSequence& s, int head) const { return (std::int64_t{s.slot} * shape.key_heads() + head / shape.sharers) * capacity * shape.dims; }
};

/// How the keys that a token sees are cut: in at most `most` parts of whole strides, none of them empty. Depends on nothing
/// but the shape of the cache and the GPU, so that among calls of few tokens a sequence gets the same bits in any company, and from a graph.
struct CacheParts {
  int most = 1, stride = 1;  // keys that a block reads at once

  // in 32 bits: a GPU divides 64 in a hundred instructions
  __device__ int keys(int seen) const { return ((larger(seen, 1) + stride - 1) / stride + most - 1) / most * stride; }
  __device__ int count(int seen) const { return (seen + keys(seen) - 1) / keys(seen); }
};

inline constexpr int cache_warps = 4;   // of a block
inline constexpr int cache_blocks = 8;  // of them on a multiprocessor, which hides the latency of memory
/// How many can be there for their registers.
template <class T, int Width>
inline constexpr int resident_cache_blocks = sizeof(T) == 8 || Width == 1 ? cache_blocks / 2 : cache_blocks;

/// How a warp reads rows of up to HeadDim dims, Width elements a load: `groups` rows side by side, `together` times before it waits.
template <class T, int HeadDim, int Width>
struct CacheReader {
  using A = accumulate_t<T>;
  static constexpr int lanes = HeadDim / Width < 32 ? HeadDim / Width : 32;  // that share a row
  static constexpr int chunks = HeadDim / Width / lanes;                     // of a row in each
  static constexpr int groups = 32 / lanes;
  static constexpr int together = chunks < 4 ? 4 / chunks : 1;
  static constexpr int stride = cache_warps * groups * together;  // rows that a block reads at once
  using Rows = Pack<T, Width>[together][chunks];
  using Dims = A[chunks][Width];  // that are this lane's

  int dims, row, own;  // of a stride, this lane's first row; its first dim

  __device__ explicit CacheReader(int dims) : dims(dims), row(static_cast<int>(threadIdx.x / 32) * groups * together + ptx::lane() / lanes), own(ptx::lane() % lanes * Width) {}

  __device__ int dim(int chunk) const { return own + chunk * lanes * Width; }
  /// A lane's chunk beyond the last dim is another's, and does not count.
  __device__ int place(int chunk) const { return dim(chunk) < dims ? dim(chunk) : 0; }
  /// Of the stride that begins at row `first`, the one that this lane reads as number u; beyond `end` it is the last once more.
  __device__ int row_of(int first, int u) const { return first + row + u * groups; }

  __device__ void load_query(Dims& query, const T* from, A scale) const {
#pragma unroll
    for (int c = 0; c < chunks; ++c) {
      load(query[c], from + place(c));
#pragma unroll
      for (int w = 0; w < Width; ++w) query[c][w] = rounded<T>(query[c][w] * scale);
    }
  }
  __device__ void load_rows(Rows& to, const T* from, int first, int end) const {
#pragma unroll
    for (int u = 0; u < together; ++u) {
      const T* row = from + std::int64_t{smaller(row_of(first, u), end - 1)} * dims;
#pragma unroll
      for (int c = 0; c < chunks; ++c) to[u][c] = *reinterpret_cast<const Pack<T, Width>*>(row + place(c));
    }
  }
  /// The products of the query and each row; every lane takes part.
  __device__ void multiply(A (&score)[together], const Dims& query, const Rows& keys) const {
#pragma unroll
    for (int u = 0; u < together; ++u) {
      score[u] = 0;
#pragma unroll
      for (int c = 0; c < chunks; ++c) {
        A dot = 0;
#pragma unroll
        for (int w = 0; w < Width; ++w) dot += query[c][w] * static_cast<A>(ptx::widen(keys[u][c].element[w]));
        if (dim(c) < dims) score[u] += dot;
      }
    }
#pragma unroll
    for (int far = lanes / 2; far > 0; far /= 2)
#pragma unroll
      for (int u = 0; u < together; ++u) score[u] += ptx::shuffle_xor(score[u], far);
  }
  __device__ static void add(Dims& sums, A weight, const Pack<T, Width> (&value)[chunks]) {
#pragma unroll
    for (int c = 0; c < chunks; ++c)
#pragma unroll
      for (int w = 0; w < Width; ++w) sums[c][w] += weight * static_cast<A>(ptx::widen(value[c].element[w]));
  }
  __device__ static void scale(Dims& sums, A factor) {
#pragma unroll
    for (int c = 0; c < chunks; ++c)
#pragma unroll
      for (int w = 0; w < Width; ++w) sums[c][w] *= factor;
  }
};

/// Which token and head a block takes, and which of their keys.
struct CachePart {
  int item, n, head, begin = 0, end = 0;
  const CachedSequence* sequence;

  template <class T>
  __device__ CachePart(const CachedAttention<T>& call, CacheParts parts)
      : item(static_cast<int>(blockIdx.x)), n(item / call.shape.heads), head(item % call.shape.heads), sequence(sequence_of(call.sequences, call.count, n)) {
    if (!sequence) return;
    const int scored = call.scored(*sequence, n), size = parts.keys(scored);
    begin = static_cast<int>(blockIdx.y) * size, end = smaller(scored, begin + size);
  }
};

}  // namespace golem::cuda
