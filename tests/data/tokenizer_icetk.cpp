// icetk's rules on a model trained here, and its public vectors where GOLEM_ICE_TEXT_MODEL names its ice_text.model.
// SPDX-License-Identifier: Apache-2.0
#include "golem/data/tokenizer_icetk.hpp"

#include <cstdlib>
#include <fstream>

#include "catch.hpp"
#include "data/icetk_like.hpp"
#include "io/files.hpp"

using namespace golem;

namespace {

using Tokens = std::vector<std::int32_t>;

const IceTokenizer& ice_tokenizer() {
  static const IceTokenizer trained = [] {
    const test::Folder folder;
    test::write(folder / "ice_text.model", icetk_like::train());
    return IceTokenizer::load(folder / "ice_text.model");
  }();
  return trained;
}

bool contains(const Tokens& tokens, std::int32_t token) { return std::find(tokens.begin(), tokens.end(), token) != tokens.end(); }

}  // namespace

TEST_CASE("ids of text begin at 20000, and special ids are GLM-130B's") {
  for (const char* text : {"install the package", "安装软件包 系统", "hello, world?"}) {
    const Tokens tokens = ice_tokenizer().encode(text);
    REQUIRE_FALSE(tokens.empty());
    for (const std::int32_t token : tokens) CHECK((token >= 20005 && token < 20200));
    CHECK(ice_tokenizer().decode(tokens) == text);
  }
  CHECK(ice_tokenizer().special() == glm_130b_tokens);
  CHECK(ice_tokenizer().size() == 150008);
}

TEST_CASE("newlines are white space unless they are to be kept; a literal <n> always is one") {
  CHECK(ice_tokenizer().decode(ice_tokenizer().encode("abc\nhi")) == "abc hi");
  CHECK_FALSE(contains(ice_tokenizer().encode("abc\nhi"), 20004));
  const Tokens kept = ice_tokenizer().encode("abc\nhi", Newlines::keep);
  CHECK(contains(kept, 20004));
  CHECK(kept == ice_tokenizer().encode("abc<n>hi"));
  CHECK(ice_tokenizer().decode(kept) == "abc\nhi");
  CHECK(ice_tokenizer().decode(ice_tokenizer().encode("abc\n\n\nhi", Newlines::keep)) == "abc\n\n\nhi");
}

TEST_CASE("the model's own normaliser: wide punctuation becomes narrow, runs of spaces one") {
  CHECK(ice_tokenizer().encode("hello， world？") == ice_tokenizer().encode("hello, world?"));
  CHECK(ice_tokenizer().encode("hello \t  world") == ice_tokenizer().encode("hello world"));
}

TEST_CASE("a prompt is read as the original's command line reads it") {
  const auto join = [](std::initializer_list<Tokens> parts) {
    Tokens all;
    for (const Tokens& part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
  };
  const auto text = [](const char* words) { return ice_tokenizer().encode(words); };
  CHECK(ice_tokenizer().encode_prompt("hello [MASK] world") == join({text("hello "), {150000}, text(" world"), {20002}}));
  CHECK(ice_tokenizer().encode_prompt("hello [gMASK]") == join({text("hello "), {150001}}));
  CHECK(ice_tokenizer().encode_prompt("[sMASK] world [MASK]") == join({{150002}, text(" world "), {150000}}));
  CHECK(ice_tokenizer().encode_prompt("hello") == join({text("hello"), {150001}}));
  CHECK(ice_tokenizer().encode_prompt("hello [MASK]\n").back() == 20002);  // the text does not end in the mask
}

TEST_CASE("text is detokenised around special ids, and ids that no text has are left out") {
  Tokens tokens = ice_tokenizer().encode("hello");
  for (const std::int32_t special : {150001, 150004}) tokens.push_back(special);
  for (const std::int32_t token : ice_tokenizer().encode("world")) tokens.push_back(token);
  tokens.push_back(20002);
  CHECK(ice_tokenizer().detokenize(tokens) == "hello[[gMASK]][sop]world[</s>]");
  CHECK(ice_tokenizer().decode(tokens) == "hello[gMASK]world");
  Tokens joined = ice_tokenizer().encode("hello");
  joined.push_back(150004);
  for (const std::int32_t token : ice_tokenizer().encode("world")) joined.push_back(token);
  CHECK(ice_tokenizer().decode(joined) == "hello world");  // what is left out parts no words
  CHECK(ice_tokenizer().detokenize(Tokens{150000, 150002, 150003, 150005, 150006, 150007}) == "[[MASK]][[sMASK]][eod][eop][ENC][dBLOCK]");
  const Tokens strange{-1, 0, 19999, 20001, 20003, 20300, 149999, 150008, 150527, 2147483647};
  CHECK(ice_tokenizer().detokenize(strange).empty());
  CHECK(ice_tokenizer().decode(strange).empty());
  tokens = ice_tokenizer().encode("hello world");
  tokens.insert(tokens.begin() + 1, strange.begin(), strange.end());
  CHECK(ice_tokenizer().decode(tokens) == "hello world");
  CHECK(ice_tokenizer().decode(Tokens{}).empty());
}

TEST_CASE("what is not icetk's model, and what is no UTF-8, is told") {
  const test::Folder folder;
  const std::string path = folder / "x.model";
  test::write(path, "not a model");
  CHECK_THROWS_WITH(IceTokenizer::load(path), Catch::Matchers::Contains("is no SentencePiece model"));
  test::write(path, icetk_like::train("[MASK]"));
  CHECK_THROWS_WITH(IceTokenizer::load(path), Catch::Matchers::Contains("but not icetk's"));
  CHECK_THROWS_WITH(IceTokenizer::load("nowhere.model"), Catch::Matchers::Contains("nowhere.model"));
  CHECK_THROWS_WITH(ice_tokenizer().encode("ab\xff"), Catch::Matchers::Contains("not UTF-8 at byte 2"));
}

TEST_CASE("icetk's public vectors") {  // spec 3
  const char* path = std::getenv("GOLEM_ICE_TEXT_MODEL");
  if (!path) {
    WARN("left out: GOLEM_ICE_TEXT_MODEL does not name icetk's ice_text.model");
    return;
  }
  const IceTokenizer ice = IceTokenizer::load(path);
  CHECK(ice.encode("Hello World! I am icetk.") == Tokens{39316, 20932, 20035, 20115, 20344, 22881, 35955, 20007});
  CHECK(ice.encode("你好世界！这里是 icetk。") == Tokens{20005, 94874, 84097, 20035, 94947, 22881, 35955, 83823});
  CHECK(ice.decode(ice.encode("Hello World! I am icetk.")) == "Hello World! I am icetk.");
  CHECK(ice.decode(ice.encode("abc\nhi")) == "abc hi");
  CHECK(ice.decode(ice.encode("abc\nhi", Newlines::keep)) == "abc\nhi");
  const std::pair<std::int32_t, const char*> pieces[]{{20006, ","}, {20007, "."}, {20012, ":"}, {20027, ";"}, {20031, "?"}, {20035, "!"}, {83823, "。"}, {145670, "…"}, {145803, "α"}, {20100, "the"}, {20200, "This"}};
  for (const auto& [token, text] : pieces) CHECK(ice.decode({&token, 1}) == text);
}
