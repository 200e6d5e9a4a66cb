// The weights of a stage in the types of a precision policy: linear matrices plain, or quantised.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <type_traits>

#include "golem/config/precision.hpp"
#include "golem/config/quantized_tensor.hpp"
#include "golem/core/tensor.hpp"
#include "golem/nn/tensors.hpp"

namespace golem {

template <Precision P>
struct LinearMatrix {
  using type = View<typename P::compute, 2>;
};

template <QuantizedPrecision P>
struct LinearMatrix<P> {
  using type = QuantizedView<P::quant>;
};

template <DequantizedPrecision P>
struct LinearMatrix<P> {
  using type = DequantizedView<typename P::compute, P::quant>;
};

/// y (N, O) = x (N, I) w^T + bias (O) or none as the original has it (spec 5.1): w becomes elements of T, a product is made of them, and the
/// bias joins behind it.
template <class D, class T, Quant Q>
void project(D& device, View<T, 2> y, std::type_identity_t<View<const T, 2>> x, const DequantizedView<T, Q>& w, std::type_identity_t<View<const T, 1>> bias) {
  dequantize(device, w.elements, w.stored);
  project(device, y, x, View<const T, 2>(w.elements), View<const T, 1>{});
  if (bias) add_bias(device, y, bias);
}

template <Precision P>
using StageWeights = StageTensors<typename LinearMatrix<P>::type, typename P::compute>;

}  // namespace golem
