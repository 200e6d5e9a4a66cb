// A transformer block: attention and feed-forward under DeepNorm, Post-LN or Pre-LN; forward, backward to its input, backward to its weights.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "golem/comm/communicator.hpp"
#include "golem/config/model.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/nn/activations.hpp"
#include "golem/nn/linear.hpp"
#include "golem/nn/rows.hpp"
#include "golem/nn/tensors.hpp"

namespace golem {

/// Block `layer` of model M on one of Tp tensor-parallel ranks (spec 1.2). Holds no weights: they come with each call.
template <Model M, class T, int Tp>
class Block {
 public:
  using A = accumulate_t<T>;

  /// Where dropout acts; "block" -1 is the embedding.
  enum class Site : std::uint64_t { attention = 1, feed_forward = 2, probabilities = 3 };

  explicit constexpr Block(int layer) : layer_(layer) {}

  /// y = block(s.x); fills the rest of `s`. y must not be s.x.
  template <class D, Communicator Ranks, class W>
  void forward(D& device, Ranks& tp, View<T, 2> y, const W& w, const BlockActivations<T>& s, BlockScratch<T> scratch, const Rows<A>& rows) const {
    refill(device, tp, w, s, scratch, rows);
    row_parallel<Tp>(device, tp, scratch.branch, s.gated, w.down);                                  // (N, C)
    drop_rows(device, scratch.branch, Site::feed_forward, rows);
    add_scaled(device, y, residual(s.sum, s.m), scratch.branch, M::config.alpha());                 // y = alpha m + FFN(m)
  }

  /// The part of `forward` that fills `s` from s.x: all that the backward pass needs. Recomputation calls it alone.
  template <class D, Communicator Ranks, class W>
  void refill(D& device, Ranks& tp, const W& w, const BlockActivations<T>& s, BlockScratch<T> scratch, const Rows<A>& rows) const {
    normalize(device, s.a, s.x, w.input_norm.gamma, w.input_norm.beta, M::config.norm_eps, s.mean_a, s.rstd_a);  // (N, C)
    project(device, s.qkv, s.a, w.qkv.weight, w.qkv.bias);                                          // (N, 3C/tp)
    rotate(device, by_head(s.qkv), rows.cos, rows.sin, rows.positions);
    attend_rows(device, s, rows);                                                                   // (N, C/tp)
    row_parallel<Tp>(device, tp, scratch.branch, s.attended, w.dense);                              // (N, C)
    drop_rows(device, scratch.branch, Site::attention, rows);
    normalize_sum(device, s.m, s.sum, residual(s.x, s.a), scratch.branch, M::config.alpha(), w.attention_norm.gamma, w.attention_norm.beta,
                  M::config.norm_eps, s.mean_m, s.rstd_m);                                          // sum = alpha a + attention(a)
    project(device, s.up, s.m, w.up.weight, w.up.bias);                                             // (N, 2F/tp)
    activate(device, s.gated, s.up, M::config.ffn_kind);                                            // (N, F/tp)
  }

  /// dx = d loss / d s.x from dy, which arrives in g.down. Leaves in `g` what backward_weight needs, and adds the norms' own
  /// gradients to `dw`.
  template <class D, Communicator Ranks, class W, class G>
  void backward_input(D& device, Ranks& tp, View<T, 2> dx, const W& w, const G& dw, const BlockActivations<T>& s, const BlockGradients<T>& g, BlockScratch<T> scratch,
                      const Rows<A>& rows) const {
    const View<T, 2> d_gated{scratch.wide.data, rows.count(), M::config.ffn / Tp}, d_attended{scratch.wide.data, rows.count(), M::config.hidden / Tp};

    const View<T, 2> dy = undropped(device, g.down, scratch, Site::feed_forward, rows);             // (N, C)
    project_backward_input(device, d_gated, g.down, w.down.weight);                                 // (N, F/tp)
    activate_backward(device, g.up, d_gated, s.up, M::config.ffn_kind);                             // (N, 2F/tp)
    column_parallel_backward<Tp>(device, tp, scratch.branch, g.up, w.up);                           // dm (N, C)
    normalize_backward(device, g.dense, dw.attention_norm.gamma, dw.attention_norm.beta, scratch.branch, s.sum, w.attention_norm.gamma, s.mean_m, s.rstd_m,
                       residual_gradient(dy));                                                      // d sum (N, C)

    const View<T, 2> d_sum = undropped(device, g.dense, scratch, Site::attention, rows);
    project_backward_input(device, d_attended, g.dense, w.dense.weight);                            // (N, C/tp)
    attend_rows_backward(device, g.qkv, d_attended, s, rows);                                       // (N, 3C/tp)
    rotate_backward(device, by_head(g.qkv), rows.cos, rows.sin, rows.positions);
    column_parallel_backward<Tp>(device, tp, scratch.branch, g.qkv, w.qkv);                         // da (N, C)
    normalize_backward(device, dx, dw.input_norm.gamma, dw.input_norm.beta, scratch.branch, s.x, w.input_norm.gamma, s.mean_a, s.rstd_a, residual_gradient(d_sum));
  }

  /// Adds the gradients of the four linears to `dw`.
  template <class D, class G>
  void backward_weight(D& device, const G& dw, const BlockActivations<T>& s, const BlockGradients<T>& g) const {
    project_backward_weight(device, dw.down.weight, dw.down.bias, g.down, s.gated);
    project_backward_weight(device, dw.up.weight, dw.up.bias, g.up, s.m);
    project_backward_weight(device, dw.dense.weight, dw.dense.bias, g.dense, s.attended);
    project_backward_weight(device, dw.qkv.weight, dw.qkv.bias, g.qkv, s.a);
  }

  /// y = block(x) for new tokens of cached sequences: attention reads `keys` and `values` (slots, H/tp, capacity, D), after
  /// adding the new ones. `s` is only space.
  template <class D, Communicator Ranks, class W>
  void infer(D& device, Ranks& tp, View<T, 2> y, const W& w, const BlockActivations<T>& s, BlockScratch<T> scratch, const Rows<A>& rows, View<T, 4> keys,
             View<T, 4> values, View<const CachedSequence, 1> sequences) const {
    normalize(device, s.a, s.x, w.input_norm.gamma, w.input_norm.beta, M::config.norm_eps, View<A, 1>{}, View<A, 1>{});
    project(device, s.qkv, s.a, w.qkv.weight, w.qkv.bias);
    rotate(device, by_head(s.qkv), rows.cos, rows.sin, rows.positions);
    append_cache(device, keys, values, by_head(s.qkv), sequences);
    attend_cached(device, heads(s.attended), by_head(s.qkv), keys, values, sequences, attention_options(rows, 0));
    row_parallel<Tp>(device, tp, scratch.branch, s.attended, w.dense);
    normalize_sum(device, s.m, s.sum, residual(s.x, s.a), scratch.branch, M::config.alpha(), w.attention_norm.gamma, w.attention_norm.beta,
                  M::config.norm_eps, View<A, 1>{}, View<A, 1>{});
    project(device, s.up, s.m, w.up.weight, w.up.bias);
    activate(device, s.gated, s.up, M::config.ffn_kind);
    row_parallel<Tp>(device, tp, scratch.branch, s.gated, w.down);
    add_scaled(device, y, residual(s.sum, s.m), scratch.branch, M::config.alpha());
  }

  /// x after dropout, row by row; as it is where nothing is dropped.
  template <class D>
  void drop_rows(D& device, View<T, 2> x, Site site, const Rows<A>& rows) const {
    if (rows.dropout == 0) return;
    for (int r = 0; r < rows.rows; ++r) {
      const View<T, 2> row = x.rows(std::int64_t{r} * rows.length, rows.length);
      drop(device, row, row, rows.dropout, stream(site, rows.first_sample + r, rows));
    }
  }

 private:
  static constexpr int local_heads = M::config.heads / Tp;

  /// Post-LN and DeepNorm carry the norm's output on, Pre-LN its input.
  static View<T, 2> residual(View<T, 2> input, View<T, 2> output) { return M::config.norm == Norm::pre ? input : output; }

  static ResidualGradient<T> residual_gradient(View<const T, 2> d) {
    if (M::config.norm == Norm::pre) return {.inside = {}, .outside = d};
    return {.inside = d, .outside = {}, .alpha = M::config.alpha()};
  }

  static View<T, 3> heads(View<T, 2> x) { return x.reshaped(x.extent(0), local_heads, M::config.head_dim()); }
  static View<T, 4> by_head(View<T, 2> x) { return x.reshaped(x.extent(0), local_heads, 3, M::config.head_dim()); }

  /// Dropout is a function of the sample's number in the run, so that no layout and no micro-batch size changes it.
  Random stream(Site site, std::int64_t sample, const Rows<A>& rows) const {
    const std::uint64_t place = static_cast<std::uint64_t>(layer_) * 4 + static_cast<std::uint64_t>(site);
    return {rows.seed, stream_of("dropout") + place * 0x9E3779B97F4A7C15u + static_cast<std::uint64_t>(sample)};
  }

  AttentionOptions attention_options(const Rows<A>& rows, int row) const {
    return {.scale = 1.0 / std::sqrt(static_cast<double>(M::config.head_dim())),
            .layer_scale = layer_ + 1.0,  // spec 1.5, section 9 item 11
            .dropout = rows.dropout,
            .random = stream(Site::probabilities, rows.first_sample + row, rows)};
  }

  template <class D>
  void attend_rows(D& device, const BlockActivations<T>& s, const Rows<A>& rows) const {
    for (int r = 0; r < rows.rows; r += rows.group())
      attend(device, part(heads(s.attended), rows, r), s.lse.rows(r, rows.group()), part(by_head(s.qkv), rows, r), rows.group(), rows.windows_of(r), attention_options(rows, r));
  }

  template <class D>
  void attend_rows_backward(D& device, View<T, 2> d_qkv, View<T, 2> d_attended, const BlockActivations<T>& s, const Rows<A>& rows) const {
    for (int r = 0; r < rows.rows; r += rows.group())
      attend_backward(device, part(by_head(d_qkv), rows, r), part(heads(d_attended), rows, r), part(heads(s.attended), rows, r), s.lse.rows(r, rows.group()),
                      part(by_head(s.qkv), rows, r), rows.group(), rows.windows_of(r), attention_options(rows, r));
  }

  /// The tokens of the rows that are computed together with row r.
  template <int Rank>
  static View<T, Rank> part(View<T, Rank> x, const Rows<A>& rows, int r) {
    return x.rows(std::int64_t{r} * rows.length, std::int64_t{rows.group()} * rows.length);
  }

  /// `d` as it was, after `d` itself went through dropout; the same memory where nothing is dropped.
  template <class D>
  View<T, 2> undropped(D& device, View<T, 2> d, BlockScratch<T> scratch, Site site, const Rows<A>& rows) const {
    if (rows.dropout == 0) return d;
    device.copy(scratch.upstream.data, d.data, static_cast<std::size_t>(d.size()) * sizeof(T));
    drop_rows(device, d, site, rows);
    return scratch.upstream;
  }

  int layer_;
};

}  // namespace golem
