// Linear layers over tensor-parallel ranks: which side of the product is cut, and where the one all-reduce is.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "golem/comm/communicator.hpp"
#include "golem/core/tensor.hpp"

namespace golem {

// Column-parallel: y_r = x W_r^T + b_r, rows of W on rank r. Forward needs no exchange: it is `project`.
// Row-parallel:    y = sum_r x_r W_r^T + b, columns of W on rank r. The bias joins on one rank, so that it is added once.

/// y = sum over ranks of x w^T, + bias: (N, O) from x (N, I/tp) and w (O, I/tp).
template <int Tp, class D, Communicator Ranks, class T, class Linear>
void row_parallel(D& device, Ranks& tp, View<T, 2> y, View<T, 2> x, const Linear& linear) {
  if constexpr (Tp == 1) {
    project(device, y, x, linear.weight, linear.bias);
  } else {
    project(device, y, x, linear.weight, tp.rank() == 0 ? linear.bias : View<T, 1>{});
    tp.all_reduce(y.flat(), Reduce::sum);
  }
}

/// dx = sum over ranks of dy w: (N, I) from dy (N, O/tp) and w (O/tp, I).
template <int Tp, class D, Communicator Ranks, class T, class Linear>
void column_parallel_backward(D& device, Ranks& tp, View<T, 2> dx, View<T, 2> dy, const Linear& linear) {
  project_backward_input(device, dx, dy, linear.weight);
  if constexpr (Tp > 1) tp.all_reduce(dx.flat(), Reduce::sum);
}

}  // namespace golem
