// AnyTokenizer: tells golem's models and icetk's apart, and reads prompts by the original's rules with either.
// SPDX-License-Identifier: Apache-2.0
#include "golem/data/tokenizer_any.hpp"

#include <string>

#include "catch.hpp"
#include "data/icetk_like.hpp"
#include "io/files.hpp"

using namespace golem;

namespace {

using Tokens = std::vector<std::int32_t>;

const Tokenizer& own() {
  static const Tokenizer trained = Tokenizer::train(icetk_like::lines(), {.vocab = 320});
  return trained;
}

AnyTokenizer loaded(const std::string& bytes) {
  const test::Folder folder;
  test::write(folder / "x.model", bytes);
  return AnyTokenizer::load(folder / "x.model");
}

}  // namespace

TEST_CASE("a model of golem's is read as one, with the original's prompts") {
  const AnyTokenizer any = loaded(own().bytes());
  CHECK_FALSE(any.is_icetk());
  CHECK(any.size() == 320);
  CHECK(any.special() == own().special());
  CHECK(any.digest() == own().digest());
  const SpecialTokens& s = own().special();
  const auto with = [](Tokens tokens, std::int32_t last) {
    tokens.push_back(last);
    return tokens;
  };
  CHECK(any.encode_original("hello world") == with(own().encode("hello world"), s.gmask));
  CHECK(any.encode_original("hello\n[gMASK]") == with(own().encode("hello"), s.gmask));
  CHECK(any.encode_original("hello [MASK] hi") == with(own().encode_prompt("hello [MASK] hi"), s.eos));
  CHECK(any.encode_original("[sMASK]") == Tokens{s.smask});
  CHECK(any.decode(own().encode("a 软 b\n")) == "a 软 b\n");
  CHECK(any.ids_without_text(323) == Tokens{320, 321, 322});
  CHECK(any.ids_without_text(7).empty());
}

TEST_CASE("a model laid out as icetk's has GLM-130B's ids, and images and padding are no text") {
  const AnyTokenizer any = loaded(icetk_like::train("<n>"));
  CHECK(any.is_icetk());
  CHECK(any.size() == 150008);
  CHECK(any.special() == glm_130b_tokens);
  CHECK(any.encode_original("hello").back() == 150001);
  CHECK(any.encode_original("hello [MASK]").back() == 150000);
  const Tokens tokens = any.encode_original("hello [MASK] hi");
  CHECK(tokens.back() == 20002);
  CHECK(any.decode(tokens) == "hello[MASK]hi");
  const Tokens none = any.ids_without_text(150528);
  REQUIRE(none.size() == 20000 + 520);
  CHECK((none[0] == 0 && none[19999] == 19999 && none[20000] == 150008 && none.back() == 150527));
}

TEST_CASE("a model of either kind gives what a corpus is made of: tokens with newlines, and the borders of words") {
  const AnyTokenizer mine = loaded(own().bytes()), icetk = loaded(icetk_like::train("<n>"));
  CHECK(mine.bytes() == own().bytes());
  CHECK(mine.encode("hello\nworld") == own().encode("hello\nworld"));
  const Tokens tokens = icetk.encode("hello\nworld");
  CHECK(icetk.decode(tokens) == "hello\nworld");
  for (const AnyTokenizer* any : {&mine, &icetk}) {
    const Words words = any->words();
    const Tokens text = any->encode("install 软件包, hi");
    std::string bordered;  // a bar before each word
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (i > 0 && !words.continues(text[i - 1], text[i])) bordered += '|';
      bordered += any->decode(std::span(&text[i], 1));
    }
    INFO(bordered);
    CHECK(bordered.find("install|") == 0);
    CHECK(bordered.substr(bordered.size() - 2) == "hi");
    CHECK_FALSE(words.continues(any->special().mask, text[0]));
  }
}

TEST_CASE("what has no word, is no text, or is neither's model, is told") {
  const AnyTokenizer models[]{loaded(own().bytes()), loaded(icetk_like::train("<n>"))};
  for (const AnyTokenizer& any : models) {
    for (const char* text : {"", " \t", "\n"}) CHECK_THROWS_WITH(any.encode_original(text), Catch::Matchers::Contains("has nothing to go on"));
    CHECK_THROWS_WITH(any.encode_original("a \377"), Catch::Matchers::Contains("UTF-8"));
  }
  CHECK_THROWS_WITH(loaded("no model"), Catch::Matchers::Contains("is no SentencePiece model"));
  CHECK_THROWS_WITH(loaded(icetk_like::train("x")), Catch::Matchers::Contains("but not icetk's"));
  CHECK_THROWS_WITH(AnyTokenizer::load("nowhere.model"), Catch::Matchers::Contains("nowhere.model"));
}
