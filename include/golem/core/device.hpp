// What golem asks of a device.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <string_view>

#include "golem/core/function_ref.hpp"

namespace golem {

/// A device hands out memory and keeps an account of it. Ops find it by argument-dependent lookup, as their first argument.
/// What is replayed under one key of a Recording must do the same with the same memory each time: only what lies in that memory
/// may differ. It neither allocates nor copies to or from the host.
template <class D>
concept Device = requires(D& device, typename D::Recording& recording, function_ref<void()> work, std::size_t bytes, void* memory, const void* source, std::string_view label) {
  { D::host_memory } -> std::convertible_to<bool>;  // whether the host may use its buffers directly
  { device.allocate(bytes, label) } -> std::same_as<void*>;
  device.release(memory, bytes, label);
  device.copy_in(memory, source, bytes);                    // host to device
  device.copy_out(memory, source, bytes);                   // device to host
  device.copy(memory, source, bytes);                       // within the device
  device.copy_pieces(memory, source, bytes, bytes, bytes);  // within it: bytes of a piece, from one to the next, and how many pieces
  device.clear(memory, bytes);                              // to zero bytes
  device.synchronize();
  device.replay(recording, 1, work);  // work(), which may be written down the first times and only repeated after that
  device.memory().current();
};

}  // namespace golem
