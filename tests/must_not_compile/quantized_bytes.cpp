// Must not compile: golem: the second argument of QuantizedView must be uint8_t or const uint8_t.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/quantized_tensor.hpp"

#if defined(SOUND)
template struct golem::QuantizedView<golem::Quant{.bits = 8}, std::uint8_t>;
#else
template struct golem::QuantizedView<golem::Quant{.bits = 8}, char>;
#endif
