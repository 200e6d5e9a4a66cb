// Leaves the tests that run on a GPU out where there is none: ends the program before the first, with words that CTest takes for skipped.
// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>

namespace {

const bool required = [] {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return true;
  std::printf("no GPU: left out (%s)\n", cudaGetErrorString(status));
  std::exit(0);
}();

}  // namespace
