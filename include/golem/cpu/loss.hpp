// Softmax cross entropy over a shard of the vocabulary, row by row, and the rows that it is computed for (spec 2.5).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "golem/core/tensor.hpp"
#include "golem/cpu/device.hpp"
#include "golem/cpu/simd_exp.hpp"
#include "golem/cpu/simd_rows.hpp"

namespace golem::cpu {

/// One row: its largest logit, and the sum of exp(logit - largest).
template <class A>
struct LogitStatisticsRow {
  template <int Bytes>
  [[gnu::always_inline]] static void run(A* max_out, A* sum_out, const A* logits, std::int64_t count) {
    using V = Lanes<A, Bytes>;
    const std::int64_t whole = count / lane_count<V> * lane_count<V>;
    V most = V{} + logits[0];
    for (std::int64_t i = 0; i < whole; i += lane_count<V>) {
      V x;
      load(x, logits + i);
      most = x > most ? x : most;
    }
    A max = max_lanes(most);
    for (std::int64_t i = whole; i < count; ++i) max = logits[i] > max ? logits[i] : max;
    V total{};
    for (std::int64_t i = 0; i < count; i += lane_count<V>) {
      V e;
      load_up_to(e, logits + i, count - i);
      e -= max;
      exponentiate(e);
      if (count - i < lane_count<V>)
        for (std::int64_t j = count - i; j < lane_count<V>; ++j) e[j] = 0;
      total += e;
    }
    *max_out = max, *sum_out = sum_lanes(total);
  }
};

/// One row: d = weight * softmax; the target is taken off by the caller.
template <class T>
struct LogitGradientRow {
  using A = accumulate_t<T>;
  template <int Bytes>
  [[gnu::always_inline]] static void run(T* d, const A* logits, A max, A scale, std::int64_t count) {
    using V = Lanes<A, Bytes>;
    for (std::int64_t i = 0; i < count; i += lane_count<V>) {
      V e;
      load_up_to(e, logits + i, count - i);
      e -= max;
      exponentiate(e);
      store_up_to(d + i, V(e * scale), count - i);
    }
  }
};

/// For each row of logits (n, V/tp): max, sum of exp(l - max), and the logit of its target, 0 where that is not one of
/// tokens first .. first + V/tp - 1.
template <class A>
void logit_statistics(Device& device, View<A, 1> max, View<A, 1> sum, View<A, 1> picked, View<A, 2> logits, View<const std::int32_t, 1> targets, std::int64_t first) {
  device.parallel(logits.extent(0), [&](std::int64_t n) {
    run_on<LogitStatisticsRow<A>>(device.isa(), &max(n), &sum(n), static_cast<const A*>(logits.row(n)), logits.extent(1));
    const std::int64_t target = targets(n) - first;
    picked(n) = target >= 0 && target < logits.extent(1) ? logits(n, target) : A{0};
  });
}

/// Makes sums that were taken from `own_max` ones from `max`: what ranks do before they add them up.
template <class A>
void rescale_sums(Device&, View<A, 1> sum, View<A, 1> own_max, View<A, 1> max) {
  for (std::int64_t n = 0; n < sum.size(); ++n) sum(n) *= std::exp(own_max(n) - max(n));
}

/// losses (n), in nats: log(sum) + max - picked.
template <class A>
void token_losses(Device&, View<A, 1> losses, View<A, 1> max, View<A, 1> sum, View<A, 1> picked) {
  for (std::int64_t n = 0; n < losses.size(); ++n) losses(n) = std::log(sum(n)) + max(n) - picked(n);
}

/// d_logits (n, V/tp) = weights * (softmax - onehot(target)); it may be the memory of `logits`.
template <class T>
void logit_gradient(Device& device, View<T, 2> d_logits, std::type_identity_t<View<const accumulate_t<T>, 2>> logits, View<const std::int32_t, 1> targets,
                    std::type_identity_t<View<const accumulate_t<T>, 1>> max, std::type_identity_t<View<const accumulate_t<T>, 1>> sum,
                    std::type_identity_t<View<const accumulate_t<T>, 1>> weights, std::int64_t first) {
  using A = accumulate_t<T>;
  device.parallel(d_logits.extent(0), [&](std::int64_t n) {
    const A scale = weights(n) / sum(n);
    const std::int64_t target = targets(n) - first;
    const bool here = target >= 0 && target < logits.extent(1);
    const A at_target = here ? weights(n) * (std::exp(logits(n, here ? target : 0) - max(n)) / sum(n) - 1) : A{0};  // before it is overwritten
    run_on<LogitGradientRow<T>>(device.isa(), d_logits.row(n), logits.row(n), max(n), scale, logits.extent(1));
    if (here) d_logits(n, target) = static_cast<T>(at_target);
  });
}

/// y (n, V) = weights (n) * x, row by row; y may be x's memory.
template <class T>
void scale_rows(Device& device, View<T, 2> y, std::type_identity_t<View<const accumulate_t<T>, 2>> x, std::type_identity_t<View<const accumulate_t<T>, 1>> weights) {
  device.parallel(y.extent(0), [&](std::int64_t n) {
    for (std::int64_t v = 0; v < y.extent(1); ++v) y.row(n)[v] = static_cast<T>(weights(n) * x.row(n)[v]);
  });
}

/// y (n, C) = rows of x (N, C).
template <class T>
void gather_rows(Device& device, View<T, 2> y, std::type_identity_t<View<const T, 2>> x, View<const std::int32_t, 1> rows) {
  device.parallel(rows.size(), [&](std::int64_t i) { std::memcpy(static_cast<void*>(y.row(i)), x.row(rows(i)), static_cast<std::size_t>(y.extent(1)) * sizeof(T)); });
}

/// y (N, C) = x (n, C) in the given rows, zero in all others.
template <class T>
void scatter_rows(Device& device, View<T, 2> y, std::type_identity_t<View<const T, 2>> x, View<const std::int32_t, 1> rows) {
  device.clear(y.data, static_cast<std::size_t>(y.size()) * sizeof(T));
  device.parallel(rows.size(), [&](std::int64_t i) { std::memcpy(static_cast<void*>(y.row(rows(i))), x.row(i), static_cast<std::size_t>(y.extent(1)) * sizeof(T)); });
}

template <class T>
struct RoundRow {
  template <int Bytes>
  [[gnu::always_inline]] static void run(accumulate_t<T>* x, std::int64_t count) {
    using V = Lanes<accumulate_t<T>, Bytes>;
    for (std::int64_t i = 0; i < count; i += lane_count<V>) {
      V lanes;
      load_up_to(lanes, x + i, count - i);
      round_to<T>(lanes);
      store_up_to(x + i, lanes, count - i);
    }
  }
};

/// Rounds each logit of x (n, V) to the nearest value of T.
template <class T>
void round_to_type(Device& device, View<accumulate_t<T>, 2> x, T) {
  device.parallel(x.extent(0), [&](std::int64_t n) { run_on<RoundRow<T>>(device.isa(), x.row(n), x.extent(1)); });
}

}  // namespace golem::cpu
