// A short run of the fuzz target of SentencePiece, without a fuzzer: a sound model, damaged in seeded ways; and any text through the sound one.
// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <vector>

#include "catch.hpp"
#include "fuzz/tokenizer_target.hpp"
#include "io/files.hpp"

namespace {

fuzz::Input input_of(const std::string& text) { return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}; }

}  // namespace

TEST_CASE("any bytes as a SentencePiece model, and any text through a sound one") {
  const std::vector<std::string> texts(20, "the model fills a blank in the text, and the text goes on \xe4\xb8\xad\xe6\x96\x87\n");
  const golem::Tokenizer sound = golem::Tokenizer::train(texts, {.vocab = 285});
  test::Dice dice(49300);
  fuzz::tokenizer(input_of(sound.bytes()));
  for (int i = 0; i < 3000; ++i) fuzz::tokenizer(input_of(test::mutated(sound.bytes(), dice)));
  for (int i = 0; i < 2000; ++i) fuzz::tokenized_text(sound, input_of(test::mutated(texts[0], dice)));
  CHECK(sound.size() == 285);  // a promise that is not kept ends the process
}
