// libFuzzer target: any bytes as a corpus and its header.
// SPDX-License-Identifier: Apache-2.0
#include "fuzz/targets.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::corpus({data, size});
  return 0;
}
