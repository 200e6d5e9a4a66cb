// Must not compile: golem: Engine's last argument must be a device that is defined: golem.hpp has golem::cpu::Device, the default, and golem.cuh golem::cuda::Device.
// SPDX-License-Identifier: Apache-2.0
#include "golem/any_device.hpp"
#if defined(SOUND)
#include "golem/cpu/device.hpp"
#endif

using Engine = golem::Engine<golem::glm_tiny, golem::fp32>;
static_assert(sizeof(Engine) > 0);
