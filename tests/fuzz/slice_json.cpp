// libFuzzer target: any text as a slice in a file. clang++ -std=c++20 -g -fsanitize=fuzzer,address,undefined -Iinclude tests/fuzz/slice_json.cpp
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/slice_json.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto part = golem::parse_slice_of({reinterpret_cast<const char*>(data), size}, "fuzz");
    const auto extent = golem::matrix_extent(part.shape, "fuzz");
    std::int64_t elements = 0;
    for (const auto& block : golem::SliceBlocks(part.slice)) {
      if (block.rows.end() > extent.rows || block.columns.end() > extent.columns) __builtin_trap();
      elements += block.rows.count * block.columns.count;
    }
    if (elements != part.slice.size() || golem::stored_shape(part).empty()) __builtin_trap();
  } catch (const golem::Error&) {  // the answer to damaged texts
  }
  return 0;
}
