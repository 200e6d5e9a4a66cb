// Ranks with a GPU each: use_nccl lets the groups of a world move device memory through NCCL.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "golem/comm/nccl_group.hpp"
#include "golem/comm/world.hpp"

namespace golem {

/// From here on the groups of `world` move device memory through NCCL, in order with `compute`, the stream of this rank's own GPU:
/// `cuda::Device device({.index = local_rank()}); use_nccl(world, device.stream());`, or, where ranks are threads, `.index = world.rank()`. The
/// ranks themselves are threads or processes as before: where one dies, it is they who end the run. Call it before count() and before groups are copied. Throws Error where NCCL's library does not fit its header.
inline void use_nccl(World& world, cudaStream_t compute) {
  nccl::check_version();
  const auto session = std::make_shared<nccl::Session>(compute);
  world.carry([&](const std::shared_ptr<Backend>& inner) -> std::shared_ptr<Backend> { return std::make_shared<NcclGroup>(inner, session); });
}

}  // namespace golem
