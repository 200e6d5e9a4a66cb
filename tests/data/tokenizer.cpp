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
  const char* words[]{"system", "package", "install", "the",  "of",   "kernel", "network", "file",
                      "user",   "group",   "软件包",  "系统", "安装", "文件",   "用户",    "网络"};
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
  for (const std::string text :
       {"install the package", "  two  spaces \n\n newline\n", "安装软件包 system", "naïve café — 日本語 😀\ttab", "[MASK] is no mask here <n>", "",
        "\n", "</s><unk><pad>[sop]<0x41> \u2581\u2581 \u2585 \u2047 \ufffd \ufeff\r\n", "\u2581\n\n\u2581"}) {
    const auto tokens = tokenizer().encode(text);
    for (const std::int32_t token : tokens) CHECK((token >= 0 && token < tokenizer().size()));
    CHECK(tokenizer().decode(tokens) == text);
  }
  CHECK(tokenizer().size() == 320);
}

TEST_CASE("decode undoes encode for any code points") {
  std::uint32_t state = 7;
  const auto below = [&](std::uint32_t n) { return ((state = state * 1664525u + 1013904223u) >> 8) % n; };
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (std::uint32_t left = below(40); left > 0; --left) {
      const std::uint32_t limits[]{0x80, 0x800, 0x10000, 0x110000};
      std::uint32_t c = 1 + below(limits[below(4)] - 1);
      if (c >= 0xd800 && c < 0xe000) c = 0x2581;
      if (c < 0x80)
        text += static_cast<char>(c);
      else if (c < 0x800)
        (text += static_cast<char>(0xc0 | c >> 6)) += static_cast<char>(0x80 | (c & 63));
      else if (c < 0x10000)
        ((text += static_cast<char>(0xe0 | c >> 12)) += static_cast<char>(0x80 | (c >> 6 & 63))) += static_cast<char>(0x80 | (c & 63));
      else
        (((text += static_cast<char>(0xf0 | c >> 18)) += static_cast<char>(0x80 | (c >> 12 & 63))) += static_cast<char>(0x80 | (c >> 6 & 63))) +=
            static_cast<char>(0x80 | (c & 63));
    }
    REQUIRE(tokenizer().decode(tokenizer().encode(text)) == text);
  }
}

TEST_CASE("prompts hold mask tokens, plain text does not") {
  const SpecialTokens& special = tokenizer().special();
  const auto prompt = tokenizer().encode_prompt("install [MASK] the [gMASK]");
  CHECK(std::count(prompt.begin(), prompt.end(), special.mask) == 1);
  CHECK(prompt.back() == special.gmask);
  const auto plain = tokenizer().encode("install [MASK] the");
  CHECK(std::count(plain.begin(), plain.end(), special.mask) == 0);
  CHECK(tokenizer().decode(prompt) == "install[MASK] the[gMASK]");
}

TEST_CASE("a space before a mask is left to the answer, and one alone") {
  const auto of = [](const char* text, std::int32_t mask) {
    auto tokens = tokenizer().encode(text);
    tokens.push_back(mask);
    return tokens;
  };
  const SpecialTokens& s = tokenizer().special();
  CHECK(tokenizer().encode_prompt("the file [MASK]") == of("the file", s.mask));
  CHECK(tokenizer().encode_prompt("the file[MASK]") == of("the file", s.mask));
  CHECK(tokenizer().encode_prompt("the file  [gMASK]") == of("the file ", s.gmask));
  CHECK(tokenizer().encode_prompt("the file\n[MASK]") == of("the file\n", s.mask));
  CHECK(tokenizer().encode_prompt("the file\n[sMASK]", Newlines::ignore) == of("the file", s.smask));
  CHECK(tokenizer().encode_prompt("the file ") == tokenizer().encode("the file "));
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
  CHECK(tokenizer().decode(ignored) == "a b");
  CHECK(tokenizer().encode_prompt("a\n[MASK]", Newlines::ignore) == tokenizer().encode_prompt("a [MASK]"));
}

TEST_CASE("training twice gives the same model, and a saved one loads with the same digest") {
  const Tokenizer again = Tokenizer::train(texts(), {.vocab = 320});
  CHECK(again.digest() == tokenizer().digest());
  const std::string path = "tokenizer_test.model";
  std::ofstream(path, std::ios::binary) << again.bytes();
  CHECK(Tokenizer::load(path).digest() == again.digest());
  std::remove(path.c_str());
}

TEST_CASE("a text of one long line is learnt from, and of a very long text every k-th line") {
  std::string line = texts()[0];
  std::replace(line.begin(), line.end(), '\n', ' ');
  const Tokenizer one_line = Tokenizer::train(std::vector<std::string>{line}, {.vocab = 320});
  CHECK(one_line.encode("kernel network").size() <= 4);
  const Tokenizer thinned = Tokenizer::train(texts(), {.vocab = 320, .most_bytes = texts()[0].size() / 3});
  CHECK(thinned.encode("kernel network").size() <= 4);
  CHECK(thinned.digest() != tokenizer().digest());
}

TEST_CASE("where characters are many, they leave half of the vocabulary to words") {
  std::string text = texts()[0];
  for (std::uint32_t c = 0x4e00; c < 0x4e00 + 500; ++c)  // each once: far more than the vocabulary has room for
    ((text += static_cast<char>(0xe0 | c >> 12)) += static_cast<char>(0x80 | (c >> 6 & 63))) += static_cast<char>(0x80 | (c & 63));
  const Tokenizer trained = Tokenizer::train(std::vector<std::string>{text}, {.vocab = 320, .character_coverage = 1});
  CHECK(trained.encode("kernel network").size() <= 4);
  CHECK(trained.decode(trained.encode(text)) == text);
}

TEST_CASE("a space is a space, also for a tokenizer that never saw one") {
  std::string text;
  for (int i = 0; i < 60; ++i) text += "abcabdacdbcd\ncabdbadc\n";
  const Tokenizer trained = Tokenizer::train(std::vector<std::string>{text}, {.vocab = 275});
  CHECK(trained.decode(trained.encode("a b  \u2581 c")) == "a b  \u2581 c");
}

TEST_CASE("text that is not UTF-8 is refused, by its byte") {
  CHECK_THROWS_WITH(tokenizer().encode("ab\xff"), Catch::Matchers::Contains("not UTF-8 at byte 2"));
  CHECK_THROWS_WITH(Tokenizer::train(std::vector<std::string>{"ab\xff"}, {.vocab = 320}), Catch::Matchers::Contains("not UTF-8 at byte 2"));
}

TEST_CASE("what is no model, or no model for GLM, or cannot be trained, is told") {
  const std::string path = "tokenizer_test.model";
  std::ofstream(path) << "not a model";
  CHECK_THROWS_WITH(Tokenizer::load(path), Catch::Matchers::Contains("is no SentencePiece model"));
  std::remove(path.c_str());
  CHECK_THROWS_WITH(Tokenizer::load("nowhere.model"), Catch::Matchers::Contains("nowhere.model"));
  CHECK_THROWS_WITH(Tokenizer::train(std::vector<std::string>{"too little"}, {.vocab = 4096}), Catch::Matchers::Contains("ask for fewer pieces"));
  for (const int vocab : {10, 256, 263, 270})
    CHECK_THROWS_WITH(Tokenizer::train(std::vector<std::string>{"a b c d e f g"}, {.vocab = vocab, .or_fewer = true}), Catch::Matchers::Contains("ask for at least 276, which are 256 bytes"));
  for (const char* text : {"[MASK]", "[MASK][gMASK]\n</s>", "<unk><pad>[sMASK][sop][eop]<n>", "<0x41><0xFF>", "\n"})
    CHECK_THROWS_WITH(Tokenizer::train(std::vector<std::string>{text}, {.vocab = 400, .or_fewer = true}), Catch::Matchers::Contains("1 texts that hold nothing but names of special tokens"));
  for (const char* text : {"[MASK] [MASK]", "[MASK]a", "<0x4G>", "[MAS"}) CHECK(Tokenizer::train(std::vector<std::string>{text}, {.vocab = 280, .or_fewer = true}).size() >= 266);
}

TEST_CASE("lines that come text by text give the tokenizer of the whole") {
  const TokenizerTraining training{.vocab = 320, .most_bytes = 5000};
  const std::vector<std::string> all = texts();
  TrainingLines lines(all[0].size() + all[1].size(), training.most_bytes);
  for (const std::string& text : all) lines.add(text);
  CHECK(Tokenizer::train(std::move(lines), training).digest() == Tokenizer::train(all, training).digest());
}

TEST_CASE("where texts give fewer pieces than were asked for, they may be taken") {
  const std::vector<std::string> texts{"a little text, and a little more of the text", "文字不多，也有一些"};
  const Tokenizer few = Tokenizer::train(texts, {.vocab = 4096, .or_fewer = true});
  CHECK((few.size() > 264 && few.size() < 400));
  for (const std::string& text : texts) CHECK(few.decode(few.encode(text)) == text);
  const Tokenizer enough = Tokenizer::train(texts, {.vocab = 280, .or_fewer = true}), exact = Tokenizer::train(texts, {.vocab = 280});
  CHECK((enough.size() == 280 && exact.size() == 280));
  for (const std::string& text : texts) CHECK(enough.encode(text) == exact.encode(text));
}

TEST_CASE("a damaged model is refused, or stays within its vocabulary") {
  const std::string path = "tokenizer_test.model";
  std::uint32_t state = 3;
  const auto below = [&](std::size_t n) { return ((state = state * 1664525u + 1013904223u) >> 8) % n; };
  int refused = 0;
  for (int round = 0; round < 150; ++round) {
    std::string model = tokenizer().bytes();
    for (std::size_t flips = 1 + below(8); flips > 0; --flips) model[below(model.size())] = static_cast<char>(below(256));
    if (round % 3 == 0) model.resize(below(model.size()));
    std::ofstream(path, std::ios::binary) << model;
    try {
      const Tokenizer damaged = Tokenizer::load(path);
      const auto tokens = damaged.encode("install 软件包 \u2581\n[MASK]");
      for (const std::int32_t token : tokens) REQUIRE((token >= 0 && token < damaged.size()));
      damaged.decode(tokens);
    } catch (const Error&) {
      ++refused;
    }
  }
  std::remove(path.c_str());
  CHECK(refused > 75);
}
