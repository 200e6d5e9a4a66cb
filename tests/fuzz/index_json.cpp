// libFuzzer target: any text as state.json or a rank's part.
// SPDX-License-Identifier: Apache-2.0
#include "fuzz/targets.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::index_json({data, size});
  return 0;
}
