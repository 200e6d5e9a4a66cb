// TensorParallel: the ranks that share each layer, as layers see them: where partial sums are added, and tokens cut and joined.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/comm/communicator.hpp"
#include "golem/comm/world.hpp"
#include "golem/core/error.hpp"
#include "golem/core/function_ref.hpp"
#include "golem/core/number.hpp"
#include "golem/core/tensor.hpp"

namespace golem {

// Column-parallel: y_r = x W_r^T + b_r, rows of W on rank r. Forward needs no sum; backward, dx = sum over r of dy_r W_r.
// Row-parallel:    y = sum over r of x_r W_r^T, + b, columns of W on rank r. Forward needs the sum.
// Between them, norms, residuals and dropout work on all N tokens on every rank; or, with sequence parallelism, on "own" tokens:
// rank r has [r N/tp, (r + 1) N/tp) of the N = B T. Then a sum ends in a reduce-scatter, and an all-gather precedes each
// column-parallel linear: in the forward the same bytes as the one all-reduce; the backward gathers the inputs of qkv and up
// once more.

/// Tensor ranks of one place in the cube. With Tp 1 everything is the identity.
template <int Tp>
class TensorParallel {
 public:
  using Ranks = std::conditional_t<Tp == 1, Self, Group>;

  TensorParallel() = default;
  /// Throws Error where the world's layout has another tensor degree.
  explicit TensorParallel(World& world) : sequence_(Tp > 1 && world.layout().sequence_parallel) {
    require(world.layout().tp == Tp, "a world of tp ", world.layout().tp, " was given to layers that were built for tp ", Tp, ": instantiate them for that degree");
    if constexpr (Tp > 1) ranks_ = world.tensor();
  }

  int rank() const { return ranks_.rank(); }
  Ranks& ranks() { return ranks_; }
  bool sequence_parallel() const { return sequence_; }

  /// This rank's part when N tokens are cut in Tp, and all tokens from everyone's part, put together in `all` (N, C).
  template <class T>
  View<T, 2> part(View<T, 2> all) const {
    return all.rows(rank() * (all.extent(0) / Tp), all.extent(0) / Tp);
  }
  template <class T>
  void join(View<T, 2> all, View<T, 2> part) {
    ranks_.all_gather(all.flat(), View<const T, 1>(part.flat()));
  }

  /// How many of n tokens this rank has between linears, and the first of them.
  std::int64_t own_tokens(std::int64_t n) const { return sequence_ ? n / Tp : n; }
  std::int64_t first_token(std::int64_t n) const { return sequence_ ? rank() * (n / Tp) : 0; }

  /// The own tokens of all tokens.
  template <class T>
  View<T, 2> own(View<T, 2> all) const {
    return sequence_ ? part(all) : all;
  }

  /// All tokens, from everyone's own: `own` itself where they are all, else put together in `space` (N, C).
  template <class T>
  View<T, 2> gather(View<T, 2> space, View<T, 2> own) {
    if (!sequence_) return own;
    join(space, own);
    return space;
  }
  /// Fills `all` from everyone's own part of it.
  template <class T>
  void gather_in_place(View<T, 2> all) {
    if (sequence_) join(all, own(all));
  }

  /// The own tokens of the sum over ranks of `partial` (N, C), in its memory.
  template <class T>
  View<T, 2> sum(View<T, 2> partial) {
    if (!sequence_) {
      if constexpr (Tp > 1) ranks_.all_reduce(partial.flat(), Reduce::sum);
      return partial;
    }
    const View<T, 2> mine = own(partial);
    ranks_.reduce_scatter(mine.flat(), View<const T, 1>(partial.flat()), Reduce::sum);
    return mine;
  }

  /// Device::replay of work with sums over these ranks in it; as it is where they cannot be captured. The ranks call it alike: what
  /// one runs as a graph all must.
  template <class D>
  void replay(D& device, typename D::Recording& recording, std::int64_t key, function_ref<void()> work) {
    if constexpr (Tp == 1) device.replay(recording, key, work);
    else if (ranks_.captures()) device.replay(recording, key, work, [&](function_ref<void()> start) { ranks_.run_graph(start); });
    else work();
  }

  /// Throws Error where a batch of n tokens cannot be cut among the ranks.
  void check(std::int64_t n) const {
    require(!sequence_ || n % Tp == 0, "a micro-batch of ", n, " tokens cannot be cut among ", Tp,
            " tensor ranks: with sequence parallelism, rows x length must be a multiple of tp");
  }

 private:
  Ranks ranks_;
  bool sequence_ = false;
};

/// y = own tokens of (sum over ranks of x w^T) + bias, in `space` (N, O), from x (N, I/tp) and w (O, I/tp). The bias joins on
/// one rank, so that it is added once; where rounding is stepwise, on all ranks behind the sum (spec 1.3).
template <int Tp, class D, class T, class Linear>
View<T, 2> row_parallel(D& device, TensorParallel<Tp>& tp, View<T, 2> space, View<T, 2> x, const Linear& linear, Rounding rounding) {
  if (rounding == Rounding::stepwise) {
    project(device, space, x, linear.weight, View<T, 1>{});
    const View<T, 2> sum = tp.sum(space);
    add_bias(device, sum, linear.bias);
    return sum;
  }
  project(device, space, x, linear.weight, tp.rank() == 0 ? linear.bias : View<T, 1>{});
  return tp.sum(space);
}

/// dx = own tokens of sum over ranks of dy w, in `space` (N, I), from dy (N, O/tp) and w (O/tp, I).
template <int Tp, class D, class T, class Linear>
View<T, 2> column_parallel_backward(D& device, TensorParallel<Tp>& tp, View<T, 2> space, View<T, 2> dy, const Linear& linear) {
  project_backward_input(device, space, dy, linear.weight);
  return tp.sum(space);
}

}  // namespace golem
