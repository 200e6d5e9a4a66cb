// Must not compile: golem: Quant::group must be 0 (the whole row), 32, 64 or a multiple of 128.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/quantized_tensor.hpp"

#if defined(SOUND)
template struct golem::QuantizedView<golem::Quant{.bits = 4, .group = 128}>;
#else
template struct golem::QuantizedView<golem::Quant{.bits = 4, .group = 96}>;
#endif
