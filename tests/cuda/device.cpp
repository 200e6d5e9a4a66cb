// cuda::Device: memory with an account, copies through staging memory, streams and graphs, and what it says when they fail.
// SPDX-License-Identifier: Apache-2.0
#include "golem/cuda/device.hpp"

#include <cstdint>
#include <numeric>
#include <vector>

#include "catch.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/device.hpp"
#include "simt/runtime.hpp"

using golem::Buffer;
using golem::cuda::Device;
namespace runtime = golem::cuda::runtime;
using Catch::Matchers::Contains;

static_assert(golem::Device<Device> && !Device::host_memory);

TEST_CASE("buffers of the GPU begin as zeros, copy in pieces through staging memory, and are accounted for") {
  const std::size_t before = simt::bytes_in_use();
  {
    Device device({.staging_bytes = 4096});
    std::vector<std::int32_t> in(10001), out(in.size());
    std::iota(in.begin(), in.end(), 0);
    Buffer<std::int32_t, Device> a(device, 10001, "weights"), b(device, 10001, "moments");
    device.copy_out(out.data(), a.data(), a.bytes());
    CHECK(out == std::vector<std::int32_t>(10001));
    device.copy_in(a.data(), in.data(), a.bytes());
    std::fill(in.begin(), in.end(), -1);  // the host may change it at once
    device.copy(b.data(), a.data(), b.bytes());
    device.copy_out(out.data(), b.data(), b.bytes());
    for (std::size_t i = 0; i < out.size(); ++i) REQUIRE(out[i] == static_cast<std::int32_t>(i));
    CHECK(device.memory().of("weights") == 40004);
    device.workspace<float>(1000);
    device.workspace<float>(10);
    CHECK(device.memory().of("workspace") == 4000);
  }
  CHECK(simt::bytes_in_use() == before);
}

TEST_CASE("a stream waits for an event of another") {
  for (int repeat = 0; repeat < 8; ++repeat) {  // streams take turns in a drawn order
    const cudaStream_t first = runtime::create_stream(), second = runtime::create_stream();
    const cudaEvent_t event = runtime::create_event();
    std::vector<int> order;
    simt::enqueue([&] { order.push_back(1); }, first);
    runtime::record(event, first);
    CHECK_FALSE(runtime::happened(event));
    CHECK_FALSE(runtime::is_past(event));
    CHECK(cudaGetLastError() == cudaSuccess);
    runtime::wait(second, event);
    simt::enqueue([&] { order.push_back(2); }, second);
    CHECK(order.empty());  // late
    runtime::synchronize(second);
    CHECK(order == std::vector<int>{1, 2});
    CHECK(runtime::happened(event));
    runtime::destroy(event), runtime::destroy(first), runtime::destroy(second);
  }
}

TEST_CASE("a captured graph runs as often as it is told to") {
  const cudaStream_t stream = runtime::create_stream();
  int runs = 0;
  runtime::begin_capture(stream);
  simt::enqueue([&] { ++runs; }, stream);
  const cudaGraphExec_t graph = runtime::end_capture(stream);
  runtime::synchronize(stream);
  CHECK(runs == 0);
  runtime::run(graph, stream);
  runtime::run(graph, stream);
  runtime::synchronize(stream);
  CHECK(runs == 2);
  runtime::destroy(graph), runtime::destroy(stream);
}

TEST_CASE("what is wrong with the machine is said in a sentence") {
  const simt::MachineRestored restored;
  simt::Machine& machine = simt::machine();
  CHECK_THROWS_WITH(Device({.index = 2}), Contains("GPU 2, and this process sees 2"));
  machine.devices = 0, machine.count_status = cudaErrorNoDevice;
  CHECK_THROWS_WITH(Device(), Contains("this process sees 0") && Contains("cpu::Device"));
  machine.count_status = cudaErrorInsufficientDriver, machine.driver = 0;
  CHECK_THROWS_WITH(Device(), Contains("found no driver, and this program was built with CUDA 1") && Contains("install the GPU's driver, or use cpu::Device"));
  machine.driver = 11040;
  CHECK_THROWS_WITH(Device(), Contains("a driver for CUDA 11.4") && Contains("install a newer driver"));
  machine = {};
  machine.major = 7;
  CHECK_THROWS_WITH(Device(), Contains("compute capability 7.0 is below 7.5"));
  machine = {};
  machine.fail_call = "cudaStreamCreateWithFlags";
  CHECK_THROWS_WITH(Device(), Contains("CUDA could not create a stream") && Contains("(cudaError"));
}

TEST_CASE("what fails half-way leaves nothing behind") {
  const simt::MachineRestored restored;
  const std::size_t streams = simt::counts().streams, events = simt::counts().events;
  for (const char* call : {"cudaStreamCreateWithFlags", "cudaEventCreateWithFlags", "cudaMallocHost"}) {
    INFO(call);
    simt::machine().fail_call = call;
    CHECK_THROWS_AS(Device(), golem::Error);
    CHECK(simt::machine().fail_call.empty());
    CHECK(simt::counts().streams == streams);
    CHECK(simt::counts().events == events);
  }
  Device device;
  const std::size_t bytes = simt::bytes_in_use();
  simt::machine().fail_call = "cudaMemsetAsync";
  CHECK_THROWS_AS((Buffer<float, Device>(device, 100, "weights")), golem::Error);
  CHECK(device.memory().of("weights") == 0);
  device.synchronize();
  CHECK(simt::bytes_in_use() == bytes);
}

TEST_CASE("out of memory: how much was asked for, what is free, and who holds the rest") {
  const simt::MachineRestored restored;
  simt::machine().memory_bytes = std::size_t{4} << 20;
  Device device;
  const Buffer<std::byte, Device> held(device, 3 << 20, "moments");
  CHECK_THROWS_WITH((Buffer<std::byte, Device>(device, 2 << 20, "activations")),
                    Contains("out of memory on GPU 0") && Contains("2 MiB were asked for 'activations' with 1 of 4 MiB free") && Contains("moments 3 MiB"));
  { const Buffer<std::byte, Device> fits(device, 1 << 20, "activations"); }
  const Buffer<std::byte, Device> again(device, 1 << 20, "activations");  // what was released is to be had, though the stream is late
  CHECK(device.memory().of("activations") == 1 << 20);
}
