// A short run of the fuzz target of SentencePiece, without a fuzzer: sound models, damaged in seeded ways; and any text through a sound one.
// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <vector>

#include "catch.hpp"
#include "fuzz/tokenizer_target.hpp"
#include "io/files.hpp"

namespace {

fuzz::Input input_of(const std::string& text) { return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}; }

}  // namespace

TEST_CASE("any bytes as a SentencePiece model, of golem's kind or icetk's, and any text through a sound one") {
  test::Dice dice(49300);
  const std::vector<std::string> models = fuzz::tokenizer_models();
  for (const std::string& model : models) {
    fuzz::tokenizer(input_of(model));
    for (int i = 0; i < 1500; ++i) fuzz::tokenizer(input_of(test::mutated(model, dice)));
  }
  const test::Folder folder;
  test::write(folder / "own", models[0]), test::write(folder / "icetk", models[1]);
  const golem::Tokenizer sound = golem::Tokenizer::load(folder / "own");
  const std::string text = "the model fills a blank in the text, and the text goes on \xe4\xb8\xad\xe6\x96\x87\n";
  for (int i = 0; i < 2000; ++i) fuzz::tokenized_text(sound, input_of(test::mutated(text, dice)));
  CHECK(sound.size() == 285);  // a promise that is not kept ends the process
  CHECK(golem::AnyTokenizer::load(folder / "icetk").is_icetk());
}
