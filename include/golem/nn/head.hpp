// The head: logits over the tied embedding and their cross entropy, a chunk of scored tokens at a time, so that no rank holds all logits.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "golem/config/plan.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/device.hpp"
#include "golem/core/function_ref.hpp"
#include "golem/core/math.hpp"
#include "golem/core/number.hpp"
#include "golem/nn/tensor_parallel.hpp"

namespace golem {

/// The tokens of a batch that have a target (n of them), on a device.
template <class A>
struct ScoredTokens {
  View<const std::int32_t, 1> rows;     // (n) ascending, which of the N tokens
  View<const std::int32_t, 1> targets;  // (n)
  View<const A, 1> weights;             // (n) d(total loss) / d(token's loss)
};

/// A loss of one's own, instead of cross entropy: reads `logits` (n, V) and `targets` (n), writes each token's loss to
/// `losses` (n), and d loss / d logits over `logits`. Weights are applied behind it.
template <class A>
using OwnLoss = function_ref<void(View<A, 2> logits, View<const std::int32_t, 1> targets, View<A, 1> losses)>;

struct HeadOptions {
  std::int64_t tokens = 0;             // the most that a batch has
  std::int64_t chunk = 0;              // whose logits are held at once: head_chunk()
  bool trains = false;                 // with memory for gradients
  Rounding rounding = Rounding::once;  // stepwise rounds logits to T
};

/// Logits and loss of the tokens of a batch, in T, on one of Tp tensor-parallel ranks.
template <Model M, class T, int Tp, Device D>
class Head {
 public:
  using A = accumulate_t<T>;

  Head(D& device, const HeadOptions& options) : device_(&device), chunk_(options.chunk), trains_(options.trains), rounding_(options.rounding) {
    Arena measure;
    lay_out(measure, options.tokens);
    memory_ = Buffer<std::byte, D>(device, static_cast<std::int64_t>(measure.used()), "head");
  }

  /// losses[i] (nats) of scored token i, from the final norm's output x (N, C) and the embedding (V/tp, C).
  void forward(TensorParallel<Tp>& tp, View<A, 1> losses, View<const T, 2> x, View<const T, 2> embedding, const ScoredTokens<A>& scored) {
    Arena arena(memory_.data(), memory_.bytes());
    lay_out(arena, scored.rows.size());
    for_each_chunk(scored, [&](std::int64_t first, std::int64_t count) {
      const View<T, 2> hidden = hidden_.rows(0, count);
      gather_rows(*device_, hidden, x, scored.rows.rows(first, count));
      cross_entropy(tp, losses.rows(first, count), hidden, embedding, scored.targets.rows(first, count));
    });
  }

  /// The same, with gradients: dx (N, C) is overwritten, d_embedding (V/tp, C) grows by `head_shrink` times its gradient
  /// (spec 4.3).
  void forward_backward(TensorParallel<Tp>& tp, View<A, 1> losses, View<T, 2> dx, View<A, 2> d_embedding, View<const T, 2> x, View<const T, 2> embedding,
                        const ScoredTokens<A>& scored, double head_shrink, OwnLoss<A> own_loss) {
    require(trains_, "gradients were asked of a Head that was made without memory for them");
    Arena arena(memory_.data(), memory_.bytes());
    lay_out(arena, scored.rows.size());
    for_each_chunk(scored, [&](std::int64_t first, std::int64_t count) {
      const View<T, 2> hidden = hidden_.rows(0, count), d_logits = d_logits_.rows(0, count);
      const View<A, 2> logits = logits_.rows(0, count);
      const auto targets = scored.targets.rows(first, count);
      const auto weights = scored.weights.rows(first, count);
      gather_rows(*device_, hidden, x, scored.rows.rows(first, count));
      if (own_loss) {
        project(*device_, logits, hidden, embedding, View<T, 1>{});
        own_loss(logits, targets, losses.rows(first, count));
        scale_rows(*device_, d_logits, logits, weights);
      } else {
        cross_entropy(tp, losses.rows(first, count), hidden, embedding, targets);
        logit_gradient(*device_, d_logits, logits, targets, max_.rows(0, count), sum_.rows(0, count), weights, first_token(tp));
      }
      const View<T, 2> d_hidden = d_hidden_.rows(first, count);
      project_backward_input(*device_, d_hidden, d_logits, embedding);
      if constexpr (Tp > 1) tp.ranks().all_reduce(d_hidden.flat(), Reduce::sum);
      if (head_shrink != 1) add_scaled(*device_, hidden, hidden, View<T, 2>{}, head_shrink);
      project_backward_weight(*device_, d_embedding, View<A, 1>{}, d_logits, hidden);
    });
    scatter_rows(*device_, dx, d_hidden_, scored.rows);
  }

  /// Logits (n, V/tp) of the hidden rows (n, C).
  void logits(View<A, 2> logits, View<const T, 2> hidden, View<const T, 2> embedding) {
    project(*device_, logits, hidden, embedding, View<T, 1>{});
    if (rounding_ == Rounding::stepwise) round_to_type(*device_, logits, T{});
  }

 private:
  static std::int64_t first_token(const TensorParallel<Tp>& tp) {
    return tp.rank() * (M::config.vocab / Tp);
  }

  template <class Body>
  void for_each_chunk(const ScoredTokens<A>& scored, const Body& body) const {
    const std::int64_t n = scored.rows.size();
    for (std::int64_t first = 0; first < n; first += chunk_) body(first, smaller(chunk_, n - first));
  }

  /// Fills logits_, max_ and sum_ for `hidden`, and writes the losses log(sum) + max - logit(target).
  void cross_entropy(TensorParallel<Tp>& tp, View<A, 1> losses, View<const T, 2> hidden, View<const T, 2> embedding, View<const std::int32_t, 1> targets) {
    const std::int64_t n = hidden.extent(0);
    const View<A, 2> logits = logits_.rows(0, n);
    const View<A, 1> max = max_.rows(0, n), sum = sum_.rows(0, n), picked = picked_.rows(0, n);
    this->logits(logits, hidden, embedding);
    logit_statistics(*device_, max, sum, picked, logits, targets, first_token(tp));
    if constexpr (Tp > 1) {
      const View<A, 1> own_max = own_max_.rows(0, n);
      device_->copy(own_max.data, max.data, static_cast<std::size_t>(n) * sizeof(A));
      tp.ranks().all_reduce(max, Reduce::max);
      rescale_sums(*device_, sum, own_max, max);
      tp.ranks().all_reduce(sum, Reduce::sum);
      tp.ranks().all_reduce(picked, Reduce::sum);
    }
    token_losses(*device_, losses, max, sum, picked);
  }

  void lay_out(Arena& arena, std::int64_t tokens) {
    const std::int64_t chunk = smaller(chunk_, tokens), vocab = M::config.vocab / Tp, hidden = M::config.hidden;
    hidden_ = arena.take<T>(chunk, hidden);
    logits_ = arena.take<A>(chunk, vocab);
    for (View<A, 1>* statistic : {&max_, &sum_, &picked_, &own_max_}) *statistic = arena.take<A>(chunk);
    if (!trains_) return;
    if constexpr (std::is_same_v<T, A>) d_logits_ = logits_;
    else d_logits_ = arena.take<T>(chunk, vocab);
    d_hidden_ = arena.take<T>(tokens, hidden);
  }

  D* device_;
  std::int64_t chunk_;
  bool trains_;
  Rounding rounding_;
  Buffer<std::byte, D> memory_;
  View<T, 2> hidden_, d_logits_, d_hidden_;
  View<A, 2> logits_;
  View<A, 1> max_, sum_, picked_, own_max_;
};

}  // namespace golem
