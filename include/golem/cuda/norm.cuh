// LayerNorm fused with the residual on the GPU, forward and backward (spec 1.2): a row is read once and written once.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "golem/core/math.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/device.hpp"
#include "golem/cuda/norm_backward_kernels.cuh"
#include "golem/cuda/norm_kernels.cuh"
#include "golem/cuda/partial_sums.cuh"

namespace golem::cuda {

/// How many vectors of a row each thread holds, so that 512 threads hold it all; 0: they cannot.
inline int steps_for(std::int64_t vectors) { return vectors <= 256 ? 1 : vectors <= 4 * 512 ? 4 : vectors <= 8 * 512 ? 8 : 0; }
inline int threads_for(std::int64_t vectors, int steps) { return static_cast<int>(steps ? round_up(ceil_div(vectors, steps), 32) : smaller<std::int64_t>(512, round_up(vectors, 32))); }

template <class T>
void start_normalize(Device& device, const NormForward<T>& f) {
  const bool wide_rows = fits_wide<T>(f.columns, f.y, f.sum, f.a, f.b, f.gamma, f.beta);
  const std::int64_t vectors = wide_rows ? f.columns / wide<T> : f.columns;
  const int steps = wide_rows ? steps_for(vectors) : 0;
  const Launch how{.name = "normalize", .early = true, .blocks = f.columns ? f.rows : 0, .threads = threads_for(vectors, steps), .shared_bytes = 64 * sizeof(accumulate_t<T>)};
  const auto start = [&](auto* kernel, auto* kernel_of_sum) { launch(device, how, f.b ? kernel_of_sum : kernel, f); };
  if (steps == 1) start(normalize_held_kernel<T, 1, Source::row>, normalize_held_kernel<T, 1, Source::sum>);
  else if (steps == 4) start(normalize_held_kernel<T, 4, Source::row>, normalize_held_kernel<T, 4, Source::sum>);
  else if (steps == 8) start(normalize_held_kernel<T, 8, Source::row>, normalize_held_kernel<T, 8, Source::sum>);
  else launch(device, how, wide_rows ? normalize_kernel<T, wide<T>> : normalize_kernel<T, 1>, f);
}

/// y (N, C) = (x - mean) rstd gamma + beta, rstd = 1 / sqrt(variance + eps); statistics in A, to mean and rstd (N) unless empty.
template <class T>
void normalize(Device& device, View<T, 2> y, std::type_identity_t<View<const T, 2>> x, std::type_identity_t<View<const T, 1>> gamma, std::type_identity_t<View<const T, 1>> beta, double eps,
               std::type_identity_t<View<accumulate_t<T>, 1>> mean, std::type_identity_t<View<accumulate_t<T>, 1>> rstd) {
  using A = accumulate_t<T>;
  start_normalize<T>(device, {y.data, nullptr, x.data, nullptr, gamma.data, beta.data, mean.data, rstd.data, A{1}, static_cast<A>(eps), x.extent(0), x.extent(1)});
}

/// sum = alpha a + b, rounded to T (alpha a as well, where rounding is stepwise); y = LN(sum).
template <class T>
void normalize_sum(Device& device, View<T, 2> y, View<T, 2> sum, std::type_identity_t<View<const T, 2>> a, std::type_identity_t<View<const T, 2>> b, double alpha,
                   std::type_identity_t<View<const T, 1>> gamma, std::type_identity_t<View<const T, 1>> beta, double eps, std::type_identity_t<View<accumulate_t<T>, 1>> mean,
                   std::type_identity_t<View<accumulate_t<T>, 1>> rstd, Rounding rounding = Rounding::once) {
  using A = accumulate_t<T>;
  start_normalize<T>(device, {y.data, sum.data, a.data, b.data, gamma.data, beta.data, mean.data, rstd.data, static_cast<A>(alpha), static_cast<A>(eps), a.extent(0), a.extent(1), rounding});
}

/// y = alpha a + b, element by element; b may be empty, y may be a or b. Rounding::stepwise rounds alpha a as well.
template <class T>
void add_scaled(Device& device, View<T, 2> y, std::type_identity_t<View<const T, 2>> a, std::type_identity_t<View<const T, 2>> b, double alpha, Rounding rounding = Rounding::once) {
  const bool all_wide = fits_wide<T>(y.size(), y.data, a.data, b.data);
  const std::int64_t vectors = all_wide ? y.size() / wide<T> : y.size();
  launch(device, {.name = "add_scaled", .early = true, .blocks = blocks_for(device, vectors, 256)}, all_wide ? add_scaled_kernel<T, wide<T>> : add_scaled_kernel<T, 1>, y.data, a.data, b.data,
         static_cast<accumulate_t<T>>(alpha), vectors, rounding);
}

/// y (N, C) += bias (C): a bias that joins a result after it was rounded.
template <class T>
void add_bias(Device& device, View<T, 2> y, std::type_identity_t<View<const T, 1>> bias) {
  const std::int64_t columns = y.extent(1);
  const bool all_wide = fits_wide<T>(columns, y.data, bias.data);
  const std::int64_t row_vectors = all_wide ? columns / wide<T> : columns, vectors = y.extent(0) * row_vectors;
  launch(device, {.name = "add_bias", .early = true, .blocks = blocks_for(device, vectors, 256)}, all_wide ? add_bias_kernel<T, wide<T>> : add_bias_kernel<T, 1>, y.data, bias.data, vectors, row_vectors);
}

/// How normalize_backward is started.
struct NormBackwardPlan {
  int steps;  // vectors of a row that each thread holds; 0: it holds none
  int threads;
  std::int64_t blocks;
  std::size_t shared_bytes;
};

/// `streams`: of the rows' tensors that are read.
template <class T>
NormBackwardPlan plan_norm_backward(const Device& device, std::int64_t rows, std::int64_t columns, int streams, bool wide_rows) {
  const std::int64_t vectors = wide_rows ? columns / wide<T> : columns;
  const std::size_t ring = 128 * sizeof(accumulate_t<T>) + static_cast<std::size_t>(2 * streams * columns) * sizeof(T);
  NormBackwardPlan plan{.steps = 0, .threads = threads_for(vectors, 0), .blocks = 0, .shared_bytes = 64 * sizeof(accumulate_t<T>)};
  std::int64_t together = 1;  // blocks of a multiprocessor
  if (wide_rows && vectors <= 4 * 512 && ring <= device.shared_bytes() && device.compute_capability() >= 80) {
    plan.steps = vectors <= 512 ? 1 : vectors <= 3 * 512 ? 3 : 4;
    plan.threads = threads_for(vectors, plan.steps);
    plan.shared_bytes = ring;
    together = smaller(smaller<std::int64_t>(4, (plan.steps == 1 ? 1024 : 512) / plan.threads), static_cast<std::int64_t>(device.shared_bytes() / ring));
  }
  const std::int64_t rows_each = ceil_div(rows, together * device.multiprocessors());
  plan.blocks = ceil_div(rows, rows_each);
  return plan;
}

/// dx = LN'(dy + alpha inside) + outside; d_gamma, d_beta (C) grow. dx may be dy's memory. x is the norm's input.
template <class T>
void normalize_backward(Device& device, View<T, 2> dx, View<accumulate_t<T>, 1> d_gamma, View<accumulate_t<T>, 1> d_beta, std::type_identity_t<View<const T, 2>> dy,
                        std::type_identity_t<View<const T, 2>> x, std::type_identity_t<View<const T, 1>> gamma, std::type_identity_t<View<const accumulate_t<T>, 1>> mean,
                        std::type_identity_t<View<const accumulate_t<T>, 1>> rstd, const std::type_identity_t<ResidualGradient<T>>& residual) {
  using A = accumulate_t<T>;
  const std::int64_t rows = x.extent(0), columns = x.extent(1);
  if (rows == 0 || columns == 0) return;
  const int streams = 2 + (residual.inside ? 1 : 0) + (residual.outside ? 1 : 0);
  const bool wide_rows = fits_wide<T>(columns, dx.data, dy.data, residual.inside.data, residual.outside.data, x.data, gamma.data);
  NormBackwardPlan plan = plan_norm_backward<T>(device, rows, columns, streams, wide_rows);
  A* partial = device.workspace<A>(2 * plan.blocks * columns);
  NormBackward<T> f{dx.data, partial, dy.data, residual.inside.data, residual.outside.data, x.data, gamma.data, mean.data, rstd.data, static_cast<A>(residual.alpha), rows, columns};
  if (const std::size_t gathered = 2 * static_cast<std::size_t>(columns) * sizeof(A); plan.steps == 0 && plan.shared_bytes + gathered <= device.shared_bytes()) {
    f.in_shared = true;
    plan.shared_bytes += gathered;
  }
  const auto start = [&](auto* kernel) { launch(device, {.name = "normalize_backward", .early = true, .blocks = plan.blocks, .threads = plan.threads, .shared_bytes = plan.shared_bytes, .architecture = plan.steps > 0 ? 80 : 0}, kernel, f); };
  if (plan.steps == 1) start(normalize_backward_held_kernel<T, 1>);
  else if (plan.steps == 3) start(normalize_backward_held_kernel<T, 3>);
  else if (plan.steps == 4) start(normalize_backward_held_kernel<T, 4>);
  else if (wide_rows) start(normalize_backward_kernel<T, wide<T>>);
  else start(normalize_backward_kernel<T, 1>);
  add_partials(device, d_gamma.data, d_beta.data, partial, plan.blocks, columns, 2 * columns);
}

}  // namespace golem::cuda
