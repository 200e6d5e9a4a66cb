// Must not compile: golem: Trainer needs fp32, fp64, bf16_mixed, fp16_mixed or low_gradients of one of these; bf16, fp16 and quantized are for inference.
// SPDX-License-Identifier: Apache-2.0
#include "golem/any_device.hpp"
#include "golem/cpu/device.hpp"

#if defined(SOUND)
using Precision = golem::bf16_mixed;
#else
using Precision = golem::bf16;
#endif

using Trainer = golem::Trainer<golem::glm_tiny, Precision>;
static_assert(sizeof(Trainer) > 0);
