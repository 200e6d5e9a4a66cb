// What the kernels of attention are given: where heads lie, what scales their scores, and what a gradient is made of.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/core/error.hpp"
#include "golem/core/number.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/attention_mask.cuh"

namespace golem::cuda {

inline constexpr int most_head_dims = 256;

template <class A>
inline constexpr A log2_e = static_cast<A>(1.4426950408889634);

/// Whether Options are an AttentionOptionsOf.
template <class Options>
concept KnowsHeadDims = requires { Options::head_dims; };

/// Calls body.operator()<HeadDim>() with the narrowest HeadDim that kernels exist for. Where Options know the dims, it is compiled for no other HeadDim.
template <class Options, class Body>
void with_head_dim(std::int64_t dims, const Body& body) {
  if constexpr (KnowsHeadDims<Options>) {
    body.template operator()<(Options::head_dims <= 64 ? 64 : Options::head_dims <= 128 ? 128 : most_head_dims)>();
  } else {
    if (dims <= 64) body.template operator()<64>();
    else if (dims <= 128) body.template operator()<128>();
    else body.template operator()<most_head_dims>();
  }
}

/// Where heads lie and what scales their scores, for every kernel of attention.
template <class T>
struct AttentionShape {
  using A = accumulate_t<T>;
  int rows, length, heads, sharers, slots, dims;  // B, T, H, S, G (S + 2), D
  A query_scale;                  // scale / layer_scale, before the query is rounded
  A score_scale;                  // layer_scale
  A scale;                        // scale
  ProbabilityDropout<A> dropout;
  std::int64_t first_head, all_heads;  // head 0 here is head first_head of all ranks' heads: masks do not depend on who has which
  std::int64_t mask_tokens;            // in each row: nor on how far rows are padded

  __host__ __device__ int key_heads() const { return (slots - heads) / 2; }           // G
  __device__ int tiles() const { return (length + tile_queries - 1) / tile_queries; }  // of a row: Visible::tiles
  __device__ std::int64_t token_step() const { return std::int64_t{slots} * dims; }  // of qkv
  /// Where in a token of qkv (N, G, S + 2, D) a query head's query (0) lies, or the key (1) or value (2) that it attends to.
  __device__ int slot(int head, int part) const { return head / sharers * (sharers + 2) + (part == 0 ? head % sharers : sharers + part - 1); }
  __device__ std::int64_t at(std::int64_t token, int head, int part) const { return (token * slots + slot(head, part)) * dims; }
  __device__ std::uint64_t element(int row, int head, int query, int key) const {
    return (static_cast<std::uint64_t>(row * all_heads + first_head + head) * mask_tokens + query) * mask_tokens + key;
  }
};

template <class T, class Options>
AttentionShape<T> attention_shape(const View<const T, 4>& qkv, int rows, const Options& options) {
  using A = accumulate_t<T>;
  if constexpr (KnowsHeadDims<Options>)
    require(qkv.extent(3) == Options::head_dims, "attention was given heads of ", qkv.extent(3), " dims, and options for heads of ", Options::head_dims, ": give AttentionOptionsOf<", qkv.extent(3), ">");
  require(qkv.extent(3) <= most_head_dims, "attention on the GPU was given heads of ", qkv.extent(3), " dims: at most ", most_head_dims);
  return {rows,
          static_cast<int>(qkv.extent(0) / rows),
          static_cast<int>(query_heads(qkv)),
          static_cast<int>(qkv.extent(2) - 2),
          static_cast<int>(qkv.extent(1) * qkv.extent(2)),
          static_cast<int>(qkv.extent(3)),
          options.rounding == Rounding::once ? static_cast<A>(options.scale) / static_cast<A>(options.layer_scale) : 1 / static_cast<A>(options.layer_scale / options.scale),
          static_cast<A>(options.layer_scale),
          static_cast<A>(options.scale),
          probability_dropout<A>(options),
          options.first_head,
          options.heads ? options.heads : query_heads(qkv),
          options.tokens ? options.tokens : qkv.extent(0) / rows};
}

/// A probability and its gradient, from the score of its query and key and from dout . value.
template <class A>
struct Probability {
  A p, kept, ds;  // p; p after dropout; d loss / d score

  __device__ Probability(A score, A dp, A log_sum, A delta, A factor) : p(exponential(score - log_sum)), kept(p * factor), ds(p * (dp * factor - delta)) {}
};

template <class T>
struct AttentionGradient {
  T* dqkv;
  const T *dout, *qkv;
  const accumulate_t<T>*log_sum, *delta;  // (B, H, T)
  const KeyRange* ranges;
  const TileKeys* tiles;
  AttentionShape<T> shape;
};

}  // namespace golem::cuda
