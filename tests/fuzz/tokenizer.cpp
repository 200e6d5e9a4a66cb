// libFuzzer target: any bytes as a SentencePiece model.
// SPDX-License-Identifier: Apache-2.0
#include "fuzz/tokenizer_target.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::tokenizer({data, size});
  return 0;
}
