// libFuzzer target: any bytes as a shard of a released checkpoint.
// SPDX-License-Identifier: Apache-2.0
#include "fuzz/targets.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::sat_shard({data, size});
  return 0;
}
