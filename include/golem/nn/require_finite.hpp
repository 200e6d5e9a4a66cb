// require_finite: a tensor of a device that must hold no NaN and no infinity; where it does, the error says what and where.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <vector>

#include "golem/core/device.hpp"
#include "golem/core/error.hpp"
#include "golem/core/number.hpp"
#include "golem/core/tensor.hpp"

namespace golem {

/// Throws Error where `values` hold a NaN or an infinity; `parts`: what they are, before "has a NaN"; `remedy` comes last. Waits for the device.
template <Device D, class T, class... Parts>
void require_finite(D& device, View<T, 1> values, std::string_view remedy, const Parts&... parts) {
  using Value = std::remove_const_t<T>;
  if (values.size() == 0 || std::isfinite(sum_of_squares(device, View<const Value, 1>(values)))) [[likely]] return;
  std::vector<Value> host(static_cast<std::size_t>(values.size()));  // squares of finite numbers may overflow: look at each
  device.copy_out(host.data(), values.data, host.size() * sizeof(Value));
  for (std::size_t i = 0; i < host.size(); ++i) {
    const auto value = static_cast<double>(static_cast<accumulate_t<Value>>(host[i]));
    if (!std::isfinite(value)) fail(parts..., " has ", std::isnan(value) ? "a NaN" : "an infinity", " at element ", i, " of ", host.size(), remedy);
  }
}

}  // namespace golem
