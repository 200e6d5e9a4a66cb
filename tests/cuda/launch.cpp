// cuda::launch: what it refuses, and what it says when a kernel cannot be started.
// SPDX-License-Identifier: Apache-2.0
#include "simt/simt.hpp"

#include "catch.hpp"
#include "golem/cuda/launch.hpp"
#include "simt/runtime.hpp"

namespace kernels {

__global__ void count(int* blocks, double, float*) { ++*blocks; }

}  // namespace kernels

using golem::cuda::Device, golem::cuda::Launch;
using Catch::Matchers::Contains;

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

TEST_CASE("a kernel that cannot be started is named, with its grid and what to do") {
  const simt::MachineRestored restored;
  Device device;
  int blocks = 0;
  const auto start = [&](const Launch& how) { launch(device, how, kernels::count, &blocks, 1.0, nullptr); };
  CHECK_THROWS_WITH(start({.name = "count", .threads = 2048}), Contains("kernel count was asked to run 1 x 1 x 1 blocks of 2048 threads"));
  CHECK_THROWS_WITH(start({.name = "count", .blocks_y = 70000}), Contains("cut the work in fewer pieces"));
  CHECK_THROWS_WITH(start({.name = "count", .shared_bytes = 200 << 10}), Contains("kernel count needs 204800 bytes of shared memory, and a block of the host has 166912"));
  simt::machine().fail_call = "cudaLaunchKernel", simt::machine().fail_status = cudaErrorNoKernelImageForDevice;
  CHECK_THROWS_WITH(start({.name = "count"}), Contains("kernel count was not built for the host, compute capability 8.0") && Contains("CMAKE_CUDA_ARCHITECTURES"));
  simt::machine().fail_call = "cudaLaunchKernel", simt::machine().fail_status = cudaErrorLaunchOutOfResources;
  CHECK_THROWS_WITH(start({.name = "count", .blocks = 7, .threads = 96}),
                    Contains("could not start kernel count on 7 x 1 x 1 blocks of 96 threads with 0 bytes of shared memory") && Contains("cudaErrorLaunchOutOfResources"));
  device.synchronize();
  CHECK(blocks == 0);
}
