// A transformer block: attention and feed-forward under DeepNorm, Post-LN or Pre-LN; forward, backward to its input, backward to its weights.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "golem/config/model.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/nn/activations.hpp"
#include "golem/nn/rows.hpp"
#include "golem/nn/tensor_parallel.hpp"
#include "golem/nn/tensors.hpp"

namespace golem {

/// Block `layer` of model M on one of Tp tensor-parallel ranks (spec 1.2). Holds no weights: they come with each call.
template <Model M, class T, int Tp>
class Block {
 public:
  using A = accumulate_t<T>;

  /// Where dropout acts; "block" -1 is the embedding.
  enum class Site : std::uint64_t { attention = 1, feed_forward = 2, probabilities = 3 };

  explicit constexpr Block(int layer, Rounding rounding = Rounding::once) : layer_(layer), rounding_(rounding) {}

  /// y = block(s.x); fills the rest of `s`. y must not be s.x. Both are of own tokens (see TensorParallel).
  template <class D, class W>
  void forward(D& device, TensorParallel<Tp>& tp, View<T, 2> y, const W& w, const BlockActivations<T>& s, BlockScratch<T> scratch, const Rows<A>& rows) const {
    refill(device, tp, w, s, scratch, rows);
    const View<T, 2> branch = row_parallel(device, tp, scratch.branch, s.gated, w.down, rounding_);  // (own, C)
    drop_rows(device, tp, branch, branch, Site::feed_forward, rows);
    add_scaled(device, y, residual(s.sum, s.m), branch, M::config.alpha(), rounding_);              // y = alpha m + FFN(m)
  }

  /// The part of `forward` that fills `s` from s.x: all that the backward pass needs. Recomputation calls it alone.
  template <class D, class W>
  void refill(D& device, TensorParallel<Tp>& tp, const W& w, const BlockActivations<T>& s, BlockScratch<T> scratch, const Rows<A>& rows) const {
    normalize(device, s.a, s.x, w.input_norm.gamma, w.input_norm.beta, M::config.norm_eps, s.mean_a, s.rstd_a);  // (own, C)
    refill_attention(device, tp, w, s, scratch, rows);                                              // (N, C/tp)
    const View<T, 2> branch = row_parallel(device, tp, scratch.branch, s.attended, w.dense, rounding_);  // (own, C)
    drop_rows(device, tp, branch, branch, Site::attention, rows);
    normalize_sum(device, s.m, s.sum, residual(s.x, s.a), branch, M::config.alpha(), w.attention_norm.gamma, w.attention_norm.beta,
                  M::config.norm_eps, s.mean_m, s.rstd_m, rounding_);                               // sum = alpha a + attention(a)
    project(device, s.up, tp.gather(scratch.gathered, s.m), w.up.weight, w.up.bias);                // (N, 2F/tp)
    activate(device, s.gated, s.up, M::config.ffn_kind, rounding_);                                 // (N, F/tp)
  }

  /// What attention makes of s.a: the part that selective recomputation does not keep.
  template <class D, class W>
  void refill_attention(D& device, TensorParallel<Tp>& tp, const W& w, const BlockActivations<T>& s, BlockScratch<T> scratch, const Rows<A>& rows) const {
    project(device, s.qkv, tp.gather(scratch.gathered, s.a), w.qkv.weight, w.qkv.bias);             // (N, (C + 2GD)/tp)
    rotate(device, by_head(s.qkv), rows.cos, rows.sin, rows.positions, rounding_);
    attend_rows(device, tp, s, rows);                                                               // (N, C/tp)
  }

  /// dx = d loss / d s.x from dy, both of own tokens. Leaves in `g` what backward_weight needs, and adds the norms' own
  /// gradients to `dw`. Where g.down is empty and can be dy itself, it becomes dy.
  template <class D, class W, class G>
  void backward_input(D& device, TensorParallel<Tp>& tp, View<T, 2> dx, View<T, 2> dy, const W& w, const G& dw, const BlockActivations<T>& s, BlockGradients<T>& g,
                      BlockScratch<T> scratch, const Rows<A>& rows) const {
    const bool whole = !tp.sequence_parallel() && rows.dropout == 0;  // a branch's gradient is the residual's, as it is
    const View<T, 2> d_gated{scratch.wide.data, rows.count(), M::config.ffn / Tp}, d_attended{scratch.wide.data, rows.count(), M::config.hidden / Tp};

    if (whole && !g.down) g.down = dy;
    branch_gradient(device, tp, g.down, dy, Site::feed_forward, rows);                              // (N, C)
    project_backward_input(device, d_gated, g.down, w.down.weight);                                 // (N, F/tp)
    activate_backward(device, g.up, d_gated, s.up, M::config.ffn_kind);                             // (N, 2F/tp)
    const View<T, 2> dm = column_parallel_backward(device, tp, scratch.branch, g.up, w.up);         // (own, C)
    const View<T, 2> d_sum = whole ? g.dense : scratch.upstream;
    normalize_backward(device, d_sum, dw.attention_norm.gamma, dw.attention_norm.beta, dm, s.sum, w.attention_norm.gamma, s.mean_m, s.rstd_m, residual_gradient(dy));

    branch_gradient(device, tp, g.dense, d_sum, Site::attention, rows);                             // (N, C)
    project_backward_input(device, d_attended, g.dense, w.dense.weight);                            // (N, C/tp)
    attend_rows_backward(device, tp, g.qkv, d_attended, s, rows);                                   // (N, (C + 2GD)/tp)
    rotate_backward(device, by_head(g.qkv), rows.cos, rows.sin, rows.positions);
    const View<T, 2> da = column_parallel_backward(device, tp, scratch.branch, g.qkv, w.qkv);       // (own, C)
    normalize_backward(device, dx, dw.input_norm.gamma, dw.input_norm.beta, da, s.x, w.input_norm.gamma, s.mean_a, s.rstd_a, residual_gradient(d_sum));
  }

  /// Adds the gradients of the four linears to `dw`.
  template <class D, class G>
  void backward_weight(D& device, TensorParallel<Tp>& tp, const G& dw, const BlockActivations<T>& s, const BlockGradients<T>& g, BlockScratch<T> scratch) const {
    project_backward_weight(device, dw.down.weight, dw.down.bias, g.down, s.gated);
    project_backward_weight(device, dw.up.weight, dw.up.bias, g.up, tp.gather(scratch.gathered, s.m));
    project_backward_weight(device, dw.dense.weight, dw.dense.bias, g.dense, s.attended);
    project_backward_weight(device, dw.qkv.weight, dw.qkv.bias, g.qkv, tp.gather(scratch.gathered, s.a));
  }

  /// y = block(x) for new tokens of cached sequences, from x (Pre-LN alone reads it) and a, its input norm; and next_a, the norm
  /// of y that comes behind, in one pass with y. Attention reads `keys` and `values` (slots, G/tp, capacity, D), after adding the
  /// new ones. The rest of `s` is only space; next_a may be s.a.
  template <class D, class W>
  void infer(D& device, TensorParallel<Tp>& tp, View<T, 2> y, View<T, 2> next_a, const W& w, const NormTensors<T>& next_norm, const BlockActivations<T>& s, BlockScratch<T> scratch,
             const Rows<A>& rows, View<T, 4> keys, View<T, 4> values, View<const CachedSequence, 1> sequences) const {
    project(device, s.qkv, s.a, w.qkv.weight, w.qkv.bias);
    rotate_into_cache(device, keys, values, by_head(s.qkv), rows.cos, rows.sin, rows.positions, sequences, rounding_);
    attend_cached(device, heads(s.attended), by_head(s.qkv), keys, values, sequences, attention_options(tp, rows, 0));
    row_parallel(device, tp, scratch.branch, s.attended, w.dense, rounding_);
    normalize_sum(device, s.m, s.sum, residual(s.x, s.a), scratch.branch, M::config.alpha(), w.attention_norm.gamma, w.attention_norm.beta,
                  M::config.norm_eps, View<A, 1>{}, View<A, 1>{}, rounding_);
    project(device, s.up, s.m, w.up.weight, w.up.bias);
    activate(device, s.gated, s.up, M::config.ffn_kind, rounding_);
    row_parallel(device, tp, scratch.branch, s.gated, w.down, rounding_);
    normalize_sum(device, next_a, y, residual(s.sum, s.m), scratch.branch, M::config.alpha(), next_norm.gamma, next_norm.beta, M::config.norm_eps, View<A, 1>{},
                  View<A, 1>{}, rounding_);
  }

  /// y = x after dropout: the own tokens of a batch, row by row; x as it is where nothing is dropped. y may be x.
  template <class D>
  void drop_rows(D& device, const TensorParallel<Tp>& tp, View<T, 2> y, View<T, 2> x, Site site, const Rows<A>& rows) const {
    if (rows.dropout == 0) {
      if (y.data != x.data) device.copy(y.data, x.data, static_cast<std::size_t>(x.size()) * sizeof(T));
      return;
    }
    const std::int64_t first = tp.first_token(rows.count()), end = first + x.extent(0);
    for (std::int64_t begin = first; begin < end;) {
      const std::int64_t row = begin / rows.length, count = smaller(end, (row + 1) * rows.length) - begin;
      drop(device, y.rows(begin - first, count), x.rows(begin - first, count), rows.dropout, stream(site, rows.first_sample + row, rows),
           (begin - row * rows.length) * M::config.hidden);
      begin += count;
    }
  }

 private:
  static constexpr int local_heads = M::config.heads / Tp, local_key_heads = M::config.key_heads() / Tp;

  /// Post-LN and DeepNorm carry the norm's output on, Pre-LN its input.
  static View<T, 2> residual(View<T, 2> input, View<T, 2> output) { return M::config.norm == Norm::pre ? input : output; }

  static ResidualGradient<T> residual_gradient(View<const T, 2> d) {
    if (M::config.norm == Norm::pre) return {.inside = {}, .outside = d};
    return {.inside = d, .outside = {}, .alpha = M::config.alpha()};
  }

  static View<T, 3> heads(View<T, 2> x) { return x.reshaped(x.extent(0), local_heads, M::config.head_dim()); }
  static View<T, 4> by_head(View<T, 2> x) { return x.reshaped(x.extent(0), local_key_heads, local_heads / local_key_heads + 2, M::config.head_dim()); }

  /// Dropout is a function of the sample's number in the run, so that no layout and no micro-batch size changes it.
  Random stream(Site site, std::int64_t sample, const Rows<A>& rows) const {
    const std::uint64_t place = static_cast<std::uint64_t>(layer_) * 4 + static_cast<std::uint64_t>(site);
    return {rows.seed, stream_of("dropout") + place * 0x9E3779B97F4A7C15u + static_cast<std::uint64_t>(sample)};
  }

  AttentionOptionsOf<M::config.head_dim()> attention_options(const TensorParallel<Tp>& tp, const Rows<A>& rows, int row) const {
    return {{.scale = 1.0 / std::sqrt(static_cast<double>(M::config.head_dim())),
             .layer_scale = layer_ + 1.0,  // spec 1.5, section 9 item 11
             .dropout = rows.dropout,
             .random = stream(Site::probabilities, rows.first_sample + row, rows),
             .rounding = rounding_,
             .first_head = std::int64_t{tp.rank()} * local_heads,
             .heads = M::config.heads,
             .tokens = M::config.context}};
  }

  template <class D>
  void attend_rows(D& device, const TensorParallel<Tp>& tp, const BlockActivations<T>& s, const Rows<A>& rows) const {
    for (int r = 0; r < rows.rows; r += rows.group())
      attend(device, part(heads(s.attended), rows, r), s.lse.rows(r, rows.group()), part(by_head(s.qkv), rows, r), rows.group(), rows.windows_of(r),
             attention_options(tp, rows, r));
  }

  template <class D>
  void attend_rows_backward(D& device, const TensorParallel<Tp>& tp, View<T, 2> d_qkv, View<T, 2> d_attended, const BlockActivations<T>& s, const Rows<A>& rows) const {
    for (int r = 0; r < rows.rows; r += rows.group())
      attend_backward(device, part(by_head(d_qkv), rows, r), part(heads(d_attended), rows, r), part(heads(s.attended), rows, r), s.lse.rows(r, rows.group()),
                      part(by_head(s.qkv), rows, r), rows.group(), rows.windows_of(r), attention_options(tp, rows, r));
  }

  /// The tokens of the rows that are computed together with row r.
  template <int Rank>
  static View<T, Rank> part(View<T, Rank> x, const Rows<A>& rows, int r) {
    return x.rows(std::int64_t{r} * rows.length, std::int64_t{rows.group()} * rows.length);
  }

  /// Gradient of a branch's output, all tokens of it, from that of the residual's sum, of own tokens; nothing to do where
  /// the two are one.
  template <class D>
  void branch_gradient(D& device, TensorParallel<Tp>& tp, View<T, 2> all, View<T, 2> d_sum, Site site, const Rows<A>& rows) const {
    drop_rows(device, tp, tp.own(all), d_sum, site, rows);
    tp.gather_in_place(all);
  }

  int layer_;
  Rounding rounding_;
};

}  // namespace golem
