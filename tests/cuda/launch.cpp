// cuda::launch: what it refuses, and what it says when a kernel cannot be started.
// SPDX-License-Identifier: Apache-2.0
#include "simt/simt.hpp"

#include "catch.hpp"
#include "golem/cuda/launch.hpp"
#include "golem/cuda/ptx.cuh"
#include "simt/runtime.hpp"

namespace kernels {

__global__ void count(int* blocks, double, float*) { ++*blocks; }

struct Matrix {
  float* data;
  std::int64_t rows, columns;
};
__global__ void begin(int* blocks) {
  golem::cuda::ptx::begin_kernel();
  ++*blocks;
}
__global__ void clear(Matrix x, int value, bool) { x.data[blockIdx.x] = static_cast<float>(value); }

}  // namespace kernels

using golem::cuda::Device, golem::cuda::Launch;
using Catch::Matchers::Contains;

TEST_CASE("errors after which nothing works on a device are those of a kernel that ran before") {
  for (const int status : {214, 220, 226, 700, 702, 710, 714, 719, 721, 911}) CHECK(golem::cuda::runtime::broke_before(static_cast<cudaError_t>(status)));
  for (const cudaError_t status : {cudaSuccess, cudaErrorInvalidValue, cudaErrorMemoryAllocation, cudaErrorNotReady, cudaErrorInvalidDeviceFunction, cudaErrorCooperativeLaunchTooLarge})
    CHECK_FALSE(golem::cuda::runtime::broke_before(status));
}

TEST_CASE("a kernel runs on every block, later, and its arguments are what its parameters are") {
  Device device;
  int blocks = 0;
  launch(device, {.name = "count", .blocks = 3, .threads = 1, .blocks_y = 4, .blocks_z = 2}, kernels::count, &blocks, 1, nullptr);
  CHECK(blocks == 0);
  device.synchronize();
  CHECK(blocks == 24);
  launch(device, {.name = "count", .blocks = 0}, kernels::count, &blocks, 1, nullptr);
  device.synchronize();
  CHECK(blocks == 24);
}

TEST_CASE("a kernel that needs much shared memory is started by either Device of a GPU, in any order of sizes") {
  const simt::MachineRestored restored;
  Device first, second;
  int blocks = 0;
  for (const std::size_t kibibytes : {100, 60, 120, 50})
    for (Device* device : {&first, &second}) {
      launch(*device, {.name = "count", .shared_bytes = kibibytes << 10}, kernels::count, &blocks, 1.0, nullptr);
      launch(second, {.name = "count", .shared_bytes = 49 << 10}, kernels::count, &blocks, 1.0, nullptr);
    }
  first.synchronize(), second.synchronize();
  CHECK(blocks == 16 * 256);
}

TEST_CASE("a kernel that cannot be started is named, with its grid and what to do") {
  const simt::MachineRestored restored;
  Device device;
  int blocks = 0;
  const auto start = [&](const Launch& how) { launch(device, how, kernels::count, &blocks, 1.0, nullptr); };
  CHECK_THROWS_WITH(start({.name = "count", .threads = 2048}), Contains("kernel count was asked to run 1 x 1 x 1 blocks of 2048 threads"));
  CHECK_THROWS_WITH(start({.name = "count", .blocks_y = 70000}), Contains("cut the work in fewer pieces"));
  CHECK_THROWS_WITH(start({.name = "count", .shared_bytes = 200 << 10}), Contains("kernel count needs 204800 bytes of shared memory, and a block of the host has 166912"));
  simt::machine().fail_call = "cudaLaunchKernelEx", simt::machine().fail_status = cudaErrorNoKernelImageForDevice;
  CHECK_THROWS_WITH(start({.name = "count"}), Contains("kernel count was not built for the host, compute capability 8.0, but for 8.0 and 9.0: ") && Contains("code=sm_80 or CMAKE_CUDA_ARCHITECTURES"));
  simt::machine().fail_call = "cudaFuncSetAttribute";  // the first to meet it where a kernel takes much shared memory
  CHECK_THROWS_WITH(start({.name = "count", .shared_bytes = 100 << 10}), Contains("kernel count was not built for the host"));
  simt::machine().written_for = 75;  // nvcc's own choice where no architecture is named
  CHECK_THROWS_WITH(start({.name = "count", .architecture = 80}), Contains("kernel count was compiled for compute capability 7.5, without instructions of 8.0 that it runs by on the host: build for it too, by nvcc -gencode arch=compute_80,"));
  simt::machine().fail_call = "cudaLaunchKernelEx", simt::machine().fail_status = cudaErrorLaunchOutOfResources;
  CHECK_THROWS_WITH(start({.name = "count", .blocks = 7, .threads = 96}),
                    Contains("could not start kernel count on 7 x 1 x 1 blocks of 96 threads with 0 bytes of shared memory") && Contains("cudaErrorLaunchOutOfResources"));
  simt::machine().fail_call = "cudaLaunchKernelEx";
  CHECK_THROWS_WITH(launch(device, {.name = "clear", .blocks = 3}, kernels::clear, kernels::Matrix{nullptr, 11, 48}, 5, true),
                    Contains("kernel clear on 3 x 1 x 1 blocks of 256 threads with 0 bytes of shared memory, shape 11 x 48, 5: "));
  device.synchronize();
  CHECK(blocks == 0);
}

TEST_CASE("a kernel that fails while it runs is told where the host waits, with the last that was started") {
  const simt::MachineRestored restored;
  Device device;
  int blocks = 0;
  simt::machine().fail_call = "cudaStreamSynchronize", simt::machine().fail_status = cudaErrorIllegalAddress;
  CHECK_THROWS_WITH(device.synchronize(), Contains("could not finish what was started on GPU 0, with no kernel in it: ") && Contains("cudaErrorIllegalAddress"));
  launch(device, {.name = "count", .blocks = 5, .threads = 96}, kernels::count, &blocks, 1.0, nullptr);
  simt::machine().fail_call = "cudaStreamSynchronize";
  CHECK_THROWS_WITH(device.synchronize(), Contains("of which kernel count on 5 x 1 x 1 blocks of 96 threads") && Contains("CUDA_LAUNCH_BLOCKING=1"));
  simt::machine().fail_call = "cudaLaunchKernelEx";
  CHECK_THROWS_WITH(launch(device, {.name = "clear"}, kernels::clear, kernels::Matrix{nullptr, 1, 1}, 5, true), Contains("could not start kernel clear behind others, of which kernel count on 5"));
}

TEST_CASE("a kernel is started early where it is told so, on GPUs of 9.0 by code that waits, unless the device was told not to") {
  const simt::MachineRestored restored;
  int blocks = 0;
  const auto started_early = [&](int major, int written_for, const Launch& how, const Device::Options& options = {}) {
    simt::machine().major = major, simt::machine().written_for = written_for;
    Device device(options);
    const std::size_t before = simt::counts().early;
    launch(device, how, kernels::begin, &blocks);
    device.synchronize();
    return simt::counts().early - before;
  };
  CHECK(started_early(9, 90, {.name = "begin", .early = true, .threads = 1}) == 1);
  CHECK(started_early(9, 80, {.name = "begin", .early = true, .threads = 1}) == 0);  // translated by the driver
  CHECK(started_early(8, 80, {.name = "begin", .early = true, .threads = 1}) == 0);
  CHECK(started_early(9, 90, {.name = "begin", .threads = 1}) == 0);
  CHECK(started_early(9, 90, {.name = "begin", .early = true, .threads = 1}, {.early = false}) == 0);
  simt::machine().driver = 12020;  // whose graphs know no early starts
  CHECK(started_early(9, 90, {.name = "begin", .early = true, .threads = 1}) == 0);
  CHECK(blocks == 6);
}

TEST_CASE("a kernel that may be started early and does not wait is a mistake that the host tells") {
  const simt::MachineRestored restored;
  simt::machine().major = 9, simt::machine().written_for = 90;
  Device device;
  int blocks = 0;
  launch(device, {.name = "count", .early = true, .threads = 1}, kernels::count, &blocks, 1.0, nullptr);
  CHECK_THROWS_WITH(device.synchronize(), Contains("thread 0 ended without begin_kernel"));
}

TEST_CASE("a device that has failed is told with the kernel that was to be started, early or not") {
  const simt::MachineRestored restored;
  simt::machine().major = 9;
  Device device;
  int blocks = 0;
  simt::machine().fail_call = "cudaFuncGetAttributes", simt::machine().fail_status = cudaErrorIllegalAddress;
  CHECK_THROWS_WITH(launch(device, {.name = "begin", .early = true, .threads = 1}, kernels::begin, &blocks), Contains("could not start kernel begin behind others"));
  launch(device, {.name = "begin", .early = true, .threads = 1}, kernels::begin, &blocks);
  device.synchronize();
  CHECK(blocks == 1);
}
