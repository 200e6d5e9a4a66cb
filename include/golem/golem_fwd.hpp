// Names only: what a header needs that mentions golem's classes and their default arguments, and instantiates none.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "golem/config/layout.hpp"
#include "golem/version.hpp"

namespace golem {

namespace cpu {
inline namespace GOLEM_ABI {
inline namespace GOLEM_THREADS {
class Device;
}
}
}  // namespace cpu

struct fp32;

template <class Model, class Precision = fp32, Layout layout = Layout{}, class Device = cpu::Device>
class Trainer;

template <class Model, class Precision = fp32, Layout layout = Layout{}, class Device = cpu::Device>
class Engine;

}  // namespace golem
