// libFuzzer target: any bytes as a safetensors file. clang++ -std=c++20 -g -fsanitize=fuzzer,address,undefined -Iinclude tests/fuzz/safetensors.cpp
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/safetensors.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const auto header = golem::parse_safetensors(bytes, "fuzz");
    for (const auto& tensor : header.tensors)
      if (header.data_start + tensor.end > size) __builtin_trap();
  } catch (const golem::Error&) {  // the answer to damaged files
  }
  return 0;
}
