// The CUDA engine's ops as declarations, for tests that the host's compiler makes: their definitions are in the .cu files beside this.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/config/model.hpp"
#include "golem/config/quantized_tensor.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/device.hpp"

namespace golem::cuda {

// rows.cu
template <class T>
void normalize(Device&, View<T, 2>, std::type_identity_t<View<const T, 2>>, std::type_identity_t<View<const T, 1>>, std::type_identity_t<View<const T, 1>>, double,
               std::type_identity_t<View<accumulate_t<T>, 1>>, std::type_identity_t<View<accumulate_t<T>, 1>>);
template <class T>
void normalize_sum(Device&, View<T, 2>, View<T, 2>, std::type_identity_t<View<const T, 2>>, std::type_identity_t<View<const T, 2>>, double, std::type_identity_t<View<const T, 1>>,
                   std::type_identity_t<View<const T, 1>>, double, std::type_identity_t<View<accumulate_t<T>, 1>>, std::type_identity_t<View<accumulate_t<T>, 1>>,
                   Rounding = Rounding::once);
template <class T>
void add_scaled(Device&, View<T, 2>, std::type_identity_t<View<const T, 2>>, std::type_identity_t<View<const T, 2>>, double, Rounding = Rounding::once);
template <class T>
void add_bias(Device&, View<T, 2>, std::type_identity_t<View<const T, 1>>);
template <class T>
void normalize_backward(Device&, View<T, 2>, View<accumulate_t<T>, 1>, View<accumulate_t<T>, 1>, std::type_identity_t<View<const T, 2>>, std::type_identity_t<View<const T, 2>>,
                        std::type_identity_t<View<const T, 1>>, std::type_identity_t<View<const accumulate_t<T>, 1>>, std::type_identity_t<View<const accumulate_t<T>, 1>>,
                        const std::type_identity_t<ResidualGradient<T>>&);
template <class T>
void activate(Device&, View<T, 2>, std::type_identity_t<View<const T, 2>>, Ffn, Rounding = Rounding::once);
template <class T>
void activate_backward(Device&, View<T, 2>, std::type_identity_t<View<const T, 2>>, std::type_identity_t<View<const T, 2>>, Ffn);

// elements.cu
template <class T>
void rotate(Device&, View<T, 4>, std::type_identity_t<View<const accumulate_t<T>, 2>>, std::type_identity_t<View<const accumulate_t<T>, 2>>, View<const std::int32_t, 1>,
            Rounding = Rounding::once);
template <class T>
void rotate_backward(Device&, View<T, 4>, std::type_identity_t<View<const accumulate_t<T>, 2>>, std::type_identity_t<View<const accumulate_t<T>, 2>>, View<const std::int32_t, 1>);
template <class T>
void embed(Device&, View<T, 2>, std::type_identity_t<View<const T, 2>>, View<const std::int32_t, 1>, std::int64_t);
template <class T>
void embed_backward(Device&, View<accumulate_t<T>, 2>, View<T, 2>, View<const std::int32_t, 1>, std::int64_t, double);
template <class T>
void drop(Device&, View<T, 2>, std::type_identity_t<View<const T, 2>>, double, Random, std::int64_t);
template <class A>
void logit_statistics(Device&, View<A, 1>, View<A, 1>, View<A, 1>, View<A, 2>, View<const std::int32_t, 1>, std::int64_t);
template <class A>
void rescale_sums(Device&, View<A, 1>, View<A, 1>, View<A, 1>);
template <class A>
void token_losses(Device&, View<A, 1>, View<A, 1>, View<A, 1>, View<A, 1>);
template <class T>
void round_to_type(Device&, View<accumulate_t<T>, 2>, T);
template <class T>
void logit_gradient(Device&, View<T, 2>, std::type_identity_t<View<const accumulate_t<T>, 2>>, View<const std::int32_t, 1>, std::type_identity_t<View<const accumulate_t<T>, 1>>,
                    std::type_identity_t<View<const accumulate_t<T>, 1>>, std::type_identity_t<View<const accumulate_t<T>, 1>>, std::int64_t);
template <class T>
void scale_rows(Device&, View<T, 2>, std::type_identity_t<View<const accumulate_t<T>, 2>>, std::type_identity_t<View<const accumulate_t<T>, 1>>);
template <class T>
void gather_rows(Device&, View<T, 2>, std::type_identity_t<View<const T, 2>>, View<const std::int32_t, 1>);
template <class T>
void scatter_rows(Device&, View<T, 2>, std::type_identity_t<View<const T, 2>>, View<const std::int32_t, 1>);
template <class A, class T, class G>
void adamw(Device&, const AdamwTensors<A, T, G>&, const AdamwStep&);
template <class T>
double sum_of_squares(Device&, View<const T, 1>);
template <class T>
void add_up_squares(Device&, View<double, 1>, std::type_identity_t<View<const T, 1>>);
template <class To, class From>
void add(Device&, View<To, 1>, View<From, 1>);
template <class To, class From>
void convert(Device&, View<To, 1>, View<From, 1>);
template <class Y, class X>
void project(Device&, View<Y, 2>, View<X, 2>, std::type_identity_t<View<const std::remove_const_t<X>, 2>>, std::type_identity_t<View<const std::remove_const_t<X>, 1>>);
template <class X, class Dy>
void project_backward_input(Device&, View<X, 2>, View<Dy, 2>, std::type_identity_t<View<const std::remove_const_t<Dy>, 2>>);
template <class Dy>
void project_backward_weight(Device&, std::type_identity_t<View<accumulate_t<std::remove_const_t<Dy>>, 2>>, std::type_identity_t<View<accumulate_t<std::remove_const_t<Dy>>, 1>>, View<Dy, 2>,
                             std::type_identity_t<View<const std::remove_const_t<Dy>, 2>>);

template <class X>
void choose_token(Device&, View<ChosenToken, 1>, View<X, 1>, View<const std::int32_t, 1>, const TokenChoice&);

// quantized.cu
template <class T, Quant Q, class Byte>
void project(Device&, View<T, 2>, std::type_identity_t<View<const T, 2>>, const QuantizedView<Q, Byte>&, std::type_identity_t<View<const T, 1>>);

template <class T, Quant Q, class Byte>
void dequantize(Device&, View<T, 2>, const QuantizedView<Q, Byte>&);

// attention.cu
template <class T, class Options = AttentionOptions>
void attend(Device&, View<T, 3>, std::type_identity_t<View<accumulate_t<T>, 3>>, std::type_identity_t<View<const T, 4>>, int, const WindowList&, const Options&);
template <class T, class Options = AttentionOptions>
void attend_backward(Device&, View<T, 4>, std::type_identity_t<View<const T, 3>>, std::type_identity_t<View<const T, 3>>, std::type_identity_t<View<const accumulate_t<T>, 3>>,
                     std::type_identity_t<View<const T, 4>>, int, const WindowList&, const Options&);
template <class T>
void rotate_into_cache(Device&, View<T, 4>, std::type_identity_t<View<T, 4>>, std::type_identity_t<View<T, 4>>, std::type_identity_t<View<const accumulate_t<T>, 2>>,
                       std::type_identity_t<View<const accumulate_t<T>, 2>>, View<const std::int32_t, 1>, View<const CachedSequence, 1>, Rounding = Rounding::once);
template <class T, class Options = AttentionOptions>
void attend_cached(Device&, View<T, 3>, std::type_identity_t<View<const T, 4>>, std::type_identity_t<View<const T, 4>>, std::type_identity_t<View<const T, 4>>, View<const CachedSequence, 1>,
                   const Options&);

}  // namespace golem::cuda
