// libFuzzer target: any text as lines of JSON.
// SPDX-License-Identifier: Apache-2.0
#include "fuzz/targets.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::jsonl({data, size});
  return 0;
}
