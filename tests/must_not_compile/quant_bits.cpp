// Must not compile: golem: Quant::bits must be 4 or 8.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/quantized_tensor.hpp"

#if defined(SOUND)
template struct golem::QuantizedView<golem::Quant{.bits = 4}>;
#else
template struct golem::QuantizedView<golem::Quant{.bits = 3}>;
#endif
