// The tokenizer: exact round trips, special tokens, determinism, and sentences for what it cannot do.
// SPDX-License-Identifier: Apache-2.0
#include "golem/data/tokenizer.hpp"

#include <cstdio>
#include <fstream>
#include <set>

#include "catch.hpp"

using namespace golem;

namespace {

// A few hundred lines of made-up English and Chinese.
std::vector<std::string> texts() {
  const char* words[]{"system", "package", "install", "the", "of", "kernel", "network", "file", "user", "group", "软件包", "系统", "安装", "文件", "用户", "网络"};
  std::string text;
  unsigned state = 1;
  for (int line = 0; line < 400; ++line) {
    for (int word = 0; word < 9; ++word) {
      state = state * 1664525u + 1013904223u;
      text += words[state >> 28];
      text += word % 3 ? " " : ", ";
    }
    text += "\n";
  }
  return {text, text.substr(0, 300) + "\n\n    indented\tand tabbed"};
}

const Tokenizer& tokenizer() {
  static const Tokenizer trained = Tokenizer::train(texts(), {.vocab = 320});
  return trained;
}

}  // namespace

TEST_CASE("decode undoes encode, byte for byte, also for characters that were never seen") {
  for (const std::string text : {"install the package", "  two  spaces \n\n newline\n", "安装软件包 system", "naïve café — 日本語 😀\ttab", "[MASK] is no mask here <n>", "", "\n"}) {
    const auto tokens = tokenizer().encode(text);
    for (const std::int32_t token : tokens) CHECK((token >= 0 && token < tokenizer().size()));
    if (text.find("<n>") == text.npos) CHECK(tokenizer().decode(tokens) == text);
  }
  CHECK(tokenizer().size() == 320);
}

TEST_CASE("prompts hold mask tokens, plain text does not") {
  const SpecialTokens& special = tokenizer().special();
  const auto prompt = tokenizer().encode_prompt("install [MASK] the [gMASK]");
  CHECK(std::count(prompt.begin(), prompt.end(), special.mask) == 1);
  CHECK(prompt.back() == special.gmask);
  const auto plain = tokenizer().encode("install [MASK] the");
  CHECK(std::count(plain.begin(), plain.end(), special.mask) == 0);
  CHECK(tokenizer().decode(prompt) == "install [MASK] the [gMASK]");
}

TEST_CASE("special tokens differ, and all but masks and newlines vanish from text") {
  const SpecialTokens& s = tokenizer().special();
  CHECK(std::set<std::int32_t>{s.mask, s.gmask, s.smask, s.sop, s.eop, s.eos, s.newline, s.pad}.size() == 8);
  auto tokens = tokenizer().encode("the file");
  tokens.insert(tokens.begin(), {s.sop, s.eop, s.eos, s.pad, -1, 100000});
  CHECK(tokenizer().decode(tokens) == "the file");
}

TEST_CASE("newlines are tokens, or white space") {
  const auto kept = tokenizer().encode("a\nb"), ignored = tokenizer().encode("a\nb", Newlines::ignore);
  CHECK(std::count(kept.begin(), kept.end(), tokenizer().special().newline) == 1);
  CHECK(std::count(ignored.begin(), ignored.end(), tokenizer().special().newline) == 0);
}

TEST_CASE("training twice gives the same model, and a saved one loads with the same digest") {
  const Tokenizer again = Tokenizer::train(texts(), {.vocab = 320});
  CHECK(again.digest() == tokenizer().digest());
  const std::string path = "tokenizer_test.model";
  std::ofstream(path, std::ios::binary) << again.bytes();
  CHECK(Tokenizer::load(path).digest() == again.digest());
  std::remove(path.c_str());
}

TEST_CASE("what is no model, or no model for GLM, or cannot be trained, is told") {
  const std::string path = "tokenizer_test.model";
  std::ofstream(path) << "not a model";
  CHECK_THROWS_WITH(Tokenizer::load(path), Catch::Matchers::Contains("is no SentencePiece model"));
  std::remove(path.c_str());
  CHECK_THROWS_WITH(Tokenizer::load("nowhere.model"), Catch::Matchers::Contains("nowhere.model"));
  CHECK_THROWS_WITH(Tokenizer::train(std::vector<std::string>{"too little"}, {.vocab = 4096}), Catch::Matchers::Contains("ask for fewer pieces"));
}
