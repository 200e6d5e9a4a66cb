// Ranks that are threads, each with a device and NCCL of the host; and values on a device.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "simt/simt.hpp"

#include "golem/comm/nccl.hpp"

#include <cstdint>
#include <utility>
#include <vector>

#include "golem/comm/threads.hpp"
#include "golem/comm/world.hpp"
#include "golem/core/buffer.hpp"
#include "golem/cuda/device.hpp"

namespace cuda_tests {

using namespace golem;

template <class T>
struct OnDevice {
  cuda::Device* device;
  Buffer<T, cuda::Device> buffer;

  OnDevice(cuda::Device& device, const std::vector<T>& values) : device(&device), buffer(device, static_cast<std::int64_t>(values.size()), "test") {
    device.copy_in(buffer.data(), values.data(), values.size() * sizeof(T));
  }
  View<T, 1> view() { return buffer.view(); }
  View<T, 1> part(std::int64_t first, std::int64_t count) { return {buffer.data() + first, count}; }
  std::vector<T> values() {
    std::vector<T> out(static_cast<std::size_t>(buffer.size()));
    device->copy_out(out.data(), buffer.data(), out.size() * sizeof(T));
    return out;
  }
};

// Runs body(world, device) on as many ranks as the layout has, each with a device and NCCL.
template <class Body>
void on_ranks(const Layout& layout, Body body, const RanksOptions& options = {}) {
  run_ranks(layout.ranks(), [&](Group all) {
    World world(std::move(all), layout);
    cuda::Device device;
    use_nccl(world, device.stream(), {.graphs_of_threads = true});
    body(world, device);
  }, options);
}

}  // namespace cuda_tests
