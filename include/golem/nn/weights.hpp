// The weights of a stage in the types of a precision policy: linear matrices plain, or quantised.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "golem/config/precision.hpp"
#include "golem/config/quantized_tensor.hpp"
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

template <Precision P>
using StageWeights = StageTensors<typename LinearMatrix<P>::type, typename P::compute>;

}  // namespace golem
