// AdamW over a flat segment, the sum of squares that clipping needs, and conversion between types (spec 4.2).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/core/math.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cpu/device.hpp"
#include "golem/cpu/simd_rows.hpp"

namespace golem::cpu {

/// Elements that one task takes of a flat segment.
inline constexpr std::int64_t flat_piece = 16384;

template <class A>
[[gnu::always_inline]] inline void square_root(A& x) {
  for (int i = 0; i < lane_count<A>; ++i) x[i] = std::is_same_v<lane_t<A>, double> ? __builtin_sqrt(x[i]) : __builtin_sqrtf(static_cast<float>(x[i]));
}

/// Everything that AdamW reads of one step, in A.
template <class A>
struct AdamwNumbers {
  A rate, beta1, beta2, eps, decay, correction1, correction2, gradient_scale;
};

template <class A, class T, class G>
struct AdamwPiece {
  template <int Bytes>
  [[gnu::always_inline]] static void run(A* master, A* moment1, A* moment2, T* compute, const G* gradient, const AdamwNumbers<A>* step, std::int64_t count) {
    using V = Lanes<A, Bytes>;
    const AdamwNumbers<A> s = *step;
    const A inverse1 = 1 / s.correction1, inverse2 = 1 / s.correction2;
    for (std::int64_t i = 0; i < count; i += lane_count<V>) {
      const std::int64_t rest = count - i;
      V g, m, v, w;
      load_up_to(g, gradient + i, rest);
      load_up_to(m, moment1 + i, rest);
      load_up_to(v, moment2 + i, rest);
      load_up_to(w, master + i, rest);
      g *= s.gradient_scale;
      m = m * s.beta1 + g * (1 - s.beta1);
      v = v * s.beta2 + g * g * (1 - s.beta2);
      V root = v * inverse2;
      square_root(root);
      w -= (m * inverse1 / (root + s.eps) + w * s.decay) * s.rate;
      store_up_to(moment1 + i, m, rest);
      store_up_to(moment2 + i, v, rest);
      store_up_to(master + i, w, rest);
      if (compute) store_up_to(compute + i, w, rest);
    }
  }
};

template <class T>
struct SquaresPiece {
  template <int Bytes>
  [[gnu::always_inline]] static void run(double* sum, const T* values, std::int64_t count) {
    using V = Lanes<accumulate_t<T>, Bytes>;
    double total = 0;
    for (std::int64_t begin = 0; begin < count; begin += 1024) {  // short runs, joined in double
      V squares{};
      for (std::int64_t i = begin; i < smaller(count, begin + 1024); i += lane_count<V>) {
        V x;
        load_up_to(x, values + i, count - i);
        squares += x * x;
      }
      total += static_cast<double>(sum_lanes(squares));
    }
    *sum = total;
  }
};

template <class To, class From>
struct AddPiece {
  template <int Bytes>
  [[gnu::always_inline]] static void run(To* to, const From* more, std::int64_t count) {
    using V = Lanes<accumulate_t<To>, Bytes>;
    for (std::int64_t i = 0; i < count; i += lane_count<V>) {
      V x, y;
      load_up_to(x, to + i, count - i);
      load_up_to(y, more + i, count - i);
      store_up_to(to + i, V(x + y), count - i);
    }
  }
};

template <class To, class From>
struct ConvertPiece {
  template <int Bytes>
  [[gnu::always_inline]] static void run(To* to, const From* from, std::int64_t count) {
    using V = Lanes<accumulate_t<From>, Bytes>;
    for (std::int64_t i = 0; i < count; i += lane_count<V>) {
      V x;
      load_up_to(x, from + i, count - i);
      store_up_to(to + i, x, count - i);
    }
  }
};

/// One AdamW step of tensors.master and its moments, all of one size; tensors.compute, unless empty, becomes the master
/// rounded to T. See AdamwStep.
template <class A, class T, class G>
void adamw(Device& device, const AdamwTensors<A, T, G>& tensors, const AdamwStep& step) {
  const AdamwNumbers<A> numbers{static_cast<A>(step.learning_rate), static_cast<A>(step.beta1),       static_cast<A>(step.beta2),       static_cast<A>(step.eps),
                                static_cast<A>(step.decay),         static_cast<A>(step.correction1), static_cast<A>(step.correction2), static_cast<A>(step.gradient_scale)};
  const std::int64_t size = tensors.master.size();
  device.parallel(ceil_div(size, flat_piece), [&](std::int64_t p) {
    const std::int64_t at = p * flat_piece;
    run_on<AdamwPiece<A, T, G>>(device.isa(), tensors.master.data + at, tensors.moment1.data + at, tensors.moment2.data + at,
                                 tensors.compute ? tensors.compute.data + at : nullptr, tensors.gradient.data + at, &numbers, smaller(flat_piece, size - at));
  });
}

/// Sum of squares in a fixed tree. Infinity and NaN pass through, so that an overflow is seen.
template <class T>
double sum_of_squares(Device& device, View<const T, 1> values) {
  const std::int64_t size = values.size(), pieces = ceil_div(size, flat_piece);
  double* partial = device.shared_scratch<double>(pieces);
  device.parallel(pieces, [&](std::int64_t p) {
    run_on<SquaresPiece<T>>(device.isa(), partial + p, values.data + p * flat_piece, smaller(flat_piece, size - p * flat_piece));
  });
  double total = 0;
  for (std::int64_t p = 0; p < pieces; ++p) total += partial[p];
  return total;
}

/// sum (1) = the same.
template <class T>
void add_up_squares(Device& device, View<double, 1> sum, std::type_identity_t<View<const T, 1>> values) {
  *sum.data = sum_of_squares<T>(device, values);
}

/// to += more, rounded once.
template <class To, class From>
void add(Device& device, View<To, 1> to, View<From, 1> more) {
  using Source = std::remove_const_t<From>;
  const std::int64_t size = to.size();
  device.parallel(ceil_div(size, flat_piece), [&](std::int64_t p) {
    const std::int64_t at = p * flat_piece;
    run_on<AddPiece<To, Source>>(device.isa(), to.data + at, static_cast<const Source*>(more.data + at), smaller(flat_piece, size - at));
  });
}

/// to = from, rounded once.
template <class To, class From>
void convert(Device& device, View<To, 1> to, View<From, 1> from) {
  using Source = std::remove_const_t<From>;
  const std::int64_t size = to.size();
  device.parallel(ceil_div(size, flat_piece), [&](std::int64_t p) {
    const std::int64_t at = p * flat_piece;
    run_on<ConvertPiece<To, Source>>(device.isa(), to.data + at, static_cast<const Source*>(from.data + at), smaller(flat_piece, size - at));
  });
}

}  // namespace golem::cpu
