// Must not compile: golem: Trainer's last argument must be a device that is defined: golem.hpp has golem::cpu::Device, the default, and golem.cuh golem::cuda::Device.
// SPDX-License-Identifier: Apache-2.0
#include "golem/any_device.hpp"
#if defined(SOUND)
#include "golem/cpu/device.hpp"
#endif

using Trainer = golem::Trainer<golem::glm_tiny>;
static_assert(sizeof(Trainer) > 0);
