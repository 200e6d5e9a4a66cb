// OwnDevice: the device that a class made for itself, because its user gave none.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

namespace golem {

/// A base class, so that the device is there before what stands on it.
template <class D>
struct OwnDevice {
  std::unique_ptr<D> own_device;
};

}  // namespace golem
