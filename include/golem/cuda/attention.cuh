// Attention on the GPU: forward, backward, and to a key-value cache, with GLM's prefix masks, and never a T x T matrix.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "golem/core/buffer.hpp"
#include "golem/core/math.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/attention_backward.cuh"
#include "golem/cuda/attention_backward_plain.cuh"
#include "golem/cuda/attention_backward_sm90.cuh"
#include "golem/cuda/attention_backward_tiled.cuh"
#include "golem/cuda/attention_cached.cuh"
#include "golem/cuda/attention_forward.cuh"
#include "golem/cuda/attention_forward_sm90.cuh"
#include "golem/cuda/attention_mask.cuh"
#include "golem/cuda/attention_plain.cuh"
#include "golem/cuda/attention_shape.cuh"
#include "golem/cuda/attention_stepwise.cuh"
#include "golem/cuda/attention_tiled.cuh"
#include "golem/cuda/device.hpp"

namespace golem::cuda {

/// The workspace of a call: what each query sees; in the backward, dot products of dout and out.
template <class T>
struct AttentionWorkspace {
  Visible visible;
  View<accumulate_t<T>, 1> delta;

  AttentionWorkspace(Arena& arena, std::int64_t rows, std::int64_t length, std::int64_t deltas) : visible(arena, rows, length), delta(arena.take<accumulate_t<T>>(deltas)) {}

  static AttentionWorkspace in(Device& device, std::int64_t rows, std::int64_t length, std::int64_t deltas) {
    Arena measure;
    AttentionWorkspace(measure, rows, length, deltas);
    Arena arena(device.workspace<std::byte>(static_cast<std::int64_t>(measure.used())), measure.used());
    return AttentionWorkspace(arena, rows, length, deltas);
  }
};

/// Each query's softmax-weighted mean of the values of its window: out (N, H, D) from rotated qkv (N, G, S + 2, D) of `rows`
/// rows of T = N / rows tokens. log_sum (B, H, T), where given, keeps the log-sum-exp of each query's scores for the backward.
/// A query outside every window gets zeros (spec 1.5, 2.3, 2.5), or, where rounding is stepwise, the mean of all values.
/// Options: AttentionOptions, or, here and below, an AttentionOptionsOf where D is known: fewer kernels are compiled, and other heads are an Error.
template <class T, class Options = AttentionOptions>
void attend(Device& device, View<T, 3> out, std::type_identity_t<View<accumulate_t<T>, 3>> log_sum, std::type_identity_t<View<const T, 4>> qkv, int rows, const WindowList& windows,
            const Options& options) {
  using A = accumulate_t<T>;
  const std::int64_t tokens = qkv.extent(0), heads = query_heads(qkv), dims = qkv.extent(3);
  require(rows > 0 && tokens % rows == 0 && windows.first.extent(0) == rows + 1, "attend was given ", tokens, " tokens in ", rows, " rows, and windows for ", windows.first.extent(0) - 1,
          ": give rows of equal length, and first[0] .. first[rows]");
  require(out.size() == tokens * heads * dims, "attend writes ", shape_of(out), " from qkv of shape ", shape_of(qkv), ": give (N, H, D) and (N, G, S + 2, D)");
  require(!log_sum || log_sum.size() == tokens * heads, "attend saves log-sum-exps to ", shape_of(log_sum), ": give (B, H, T), ", tokens * heads, " elements");
  require(options.dropout == 0 || options.rounding == Rounding::once, "attend was asked to drop probabilities and to round as the original's inference does: give a dropout of 0");
  if (tokens == 0) return;
  const AttentionShape<T> shape = attention_shape(qkv, rows, options);
  const auto work = AttentionWorkspace<T>::in(device, rows, shape.length, 0);
  find_visible_keys(device, work.visible, windows);
  const KeyRange* ranges = work.visible.ranges.data;
  if (options.rounding == Rounding::stepwise) {
    launch(device, plain_launch<A>("attend_stepwise", tokens * heads, dims), attend_stepwise_kernel<T>, out.data, log_sum.data, qkv.data, ranges, shape);
    return;
  }
  bool done = false;
  if constexpr (sizeof(T) == 2) {
    if (fits_wide<T>(dims, out.data, qkv.data))
      with_head_dim<Options>(dims, [&]<int HeadDim>() {
        const AttentionCall<T> call{out.data, log_sum.data, qkv, work.visible, shape};
        if constexpr (HeadDim <= most_sm90_dims) done = start_forward<HeadDim>(sm_90a{}, device, call);
        if (!done) done = start_forward<HeadDim>(sm_80{}, device, call);
      });
  } else {
    with_head_dim<Options>(dims, [&]<int HeadDim>() {
      if constexpr (HeadDim <= most_tiled_dims) done = start_tiled<HeadDim>(device, out.data, log_sum.data, qkv.data, work.visible, shape);
    });
  }
  if (!done) launch(device, plain_launch<A>("attend_plain", tokens * heads, dims), attend_plain_kernel<T>, out.data, log_sum.data, qkv.data, ranges, shape);
}

/// dqkv (N, G, S + 2, D) from dout (N, H, D), what `attend` wrote, and what it was given; overwrites dqkv.
template <class T, class Options = AttentionOptions>
void attend_backward(Device& device, View<T, 4> dqkv, std::type_identity_t<View<const T, 3>> dout, std::type_identity_t<View<const T, 3>> out,
                     std::type_identity_t<View<const accumulate_t<T>, 3>> log_sum, std::type_identity_t<View<const T, 4>> qkv, int rows, const WindowList& windows,
                     const Options& options) {
  using A = accumulate_t<T>;
  const std::int64_t tokens = qkv.extent(0), heads = query_heads(qkv), dims = qkv.extent(3);
  require(rows > 0 && tokens % rows == 0 && windows.first.extent(0) == rows + 1, "attend_backward was given ", tokens, " tokens in ", rows, " rows, and windows for ",
          windows.first.extent(0) - 1, ": give rows of equal length, and first[0] .. first[rows]");
  require(dqkv.size() == qkv.size() && out.size() == tokens * heads * dims && dout.size() == out.size() && log_sum.size() == tokens * heads, "attend_backward was given dqkv ", shape_of(dqkv), ", dout ",
          shape_of(dout), ", out ", shape_of(out), ", log-sum-exps ", shape_of(log_sum), " and qkv ", shape_of(qkv), ": give (N, G, S + 2, D), (N, H, D) twice, (B, H, T) and (N, G, S + 2, D)");
  if (tokens == 0) return;
  const AttentionShape<T> shape = attention_shape(qkv, rows, options);
  const auto work = AttentionWorkspace<T>::in(device, rows, shape.length, tokens * heads);
  find_visible_keys(device, work.visible, windows);
  find_output_dots(device, work.delta.data, dout.data, out.data, shape);
  const AttentionGradient<T> gradient{dqkv.data, dout.data, qkv.data, log_sum.data, work.delta.data, work.visible.ranges.data, work.visible.tiles.data, shape};
  bool done = false;
  if constexpr (sizeof(T) == 2) {
    if (fits_wide<T>(dims, dqkv.data, dout.data, qkv.data))
      with_head_dim<Options>(dims, [&]<int HeadDim>() {
        if constexpr (HeadDim <= most_sm90_dims) done = start_backward<HeadDim>(sm_90a{}, device, gradient);
        if (!done) done = start_backward<HeadDim>(sm_80{}, device, gradient);
      });
  } else {
    with_head_dim<Options>(dims, [&]<int HeadDim>() {
      if constexpr (HeadDim <= most_tiled_dims) done = start_tiled_backward<HeadDim>(device, gradient);
    });
  }
  if (done) return;
  launch(device, plain_launch<A>("attend_plain_dquery", tokens * heads, dims), attend_plain_dquery_kernel<T>, gradient);
  launch(device, plain_launch<A>("attend_plain_dkey", tokens * qkv.extent(1), 0), attend_plain_dkey_kernel<T>, gradient);
}

}  // namespace golem::cuda
