// libFuzzer target: any bytes as a file of instructions.
// SPDX-License-Identifier: Apache-2.0
#include "fuzz/targets.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::instructions({data, size});
  return 0;
}
