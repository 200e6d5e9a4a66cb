// Ranks with a GPU each: use_nccl lets the groups of a world move device memory through NCCL.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "golem/comm/agreement.hpp"
#include "golem/comm/nccl_group.hpp"
#include "golem/comm/world.hpp"

namespace golem {

namespace nccl {

/// Where ranks are threads of a process, NCCL reaches from one's GPU into the memory of another's by itself; golem's is of pools. Returns whether there are any such.
inline bool open_pools_to_peers(World& world) {
  static const std::string process = sentence(getpid(), '.', std::chrono::steady_clock::now().time_since_epoch().count());  // like no other's
  const int own = cuda::runtime::current_device();
  const std::vector<std::string> ranks = gather_texts(world.all(), sentence(process, ' ', own));
  for (int device = 0, devices = cuda::runtime::device_count(); device < devices; ++device)
    if (device != own && std::find(ranks.begin(), ranks.end(), sentence(process, ' ', device)) != ranks.end()) cuda::runtime::open_pool(own, device);
  return std::count_if(ranks.begin(), ranks.end(), [](const std::string& one) { return one.substr(0, one.find(' ')) == process; }) > 1;
}

}  // namespace nccl

struct NcclOptions {
  bool graphs_of_threads = false;  // whether graphs may have transfers of ranks in them that are threads of a process, which NCCL advises against
};

/// From here on the groups of `world` move device memory through NCCL, in order with `compute`, the stream of this rank's own GPU:
/// `cuda::Device device({.index = local_rank()}); use_nccl(world, device.stream());`, or, where ranks are threads, `.index = world.rank()`. The
/// ranks themselves are threads or processes as before: where one dies, it is they who end the run. Call it on every rank, before count() and before groups are copied. Throws Error where NCCL's library does not fit its header.
/// Engines of several tensor ranks decode by graphs with these transfers in them where each rank has a process of its own.
inline void use_nccl(World& world, cudaStream_t compute, const NcclOptions& options = {}) {
  nccl::check_version();
  const bool threads = nccl::open_pools_to_peers(world);
  const auto session = std::make_shared<nccl::Session>(compute, world.all().backend(), !threads || options.graphs_of_threads);
  world.carry([&](const std::shared_ptr<Backend>& inner) -> std::shared_ptr<Backend> { return std::make_shared<NcclGroup>(inner, session); });
}

}  // namespace golem
