// Blanks: what may be blanked, that the text alone chooses, and what context goes along.
// SPDX-License-Identifier: Apache-2.0
#include "golem/eval/blanks.hpp"

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"

using namespace golem;

namespace {

std::vector<std::string> texts(std::string_view text, const std::vector<TextRange>& ranges) {
  std::vector<std::string> out;
  for (const auto& [begin, end] : ranges) out.emplace_back(text.substr(begin, end - begin));
  return out;
}

using Texts = std::vector<std::string>;

const std::vector<std::string> documents{
    "Chapter 1. A heading of several words\n"
    "The package manager keeps a list of every installed file. It removes them again when the package is purged. Short one.\n"
    "name | what the column means is written here. | size\n"
    "Administrators should read the release notes before they upgrade any machine.\n",
    "软件包管理器 保存 所有已安装文件的列表。清除软件包时 dpkg 会再次 删除这些文件！\n"
    "系统管理员在升级任何机器之前 应当 阅读发行说明。短句。\n",
    "Administrators should read the release notes before they upgrade any machine.\n"};  // again, elsewhere

std::string whole(const Blank& blank) { return blank.before + blank.answer + blank.after; }

}  // namespace

TEST_CASE("a paragraph falls into its sentences") {
  const std::string_view english = "See version 2.4 of apt.conf. It is new (quite new.) Really? \"Yes.\" e.g. this";
  CHECK(texts(english, sentences_of(english)) == Texts{"See version 2.4 of apt.conf.", "It is new (quite new.)", "Really? \"Yes.\" e.g. this"});
  const std::string_view chinese = "他说：“好。”然后走了！ 用 apt 2.4 吗？没有";
  CHECK(texts(chinese, sentences_of(chinese)) == Texts{"他说：“好。”", "然后走了！", "用 apt 2.4 吗？", "没有"});
  CHECK(sentences_of("").empty());
  CHECK(sentences_of("  ").empty());
}

TEST_CASE("what is not UTF-8 is passed over byte by byte") {
  for (const std::string_view text : {"\xff", "a.\xff\xfe b", "，中\xe4文。", "\xe4\xb8", "。\x80”"}) {
    std::size_t covered = 0;
    for (const auto& [begin, end] : sentences_of(text)) covered += end - begin;
    CHECK((covered > 0 && covered <= text.size()));
    CHECK(chinese_places(text).empty());
  }
  CHECK(han_count("中\xff\xe4文") == 2);
}

TEST_CASE("English blanks are plain words inside the sentence") {
  const std::string_view text = "First words, of any/path and dpkg-query with user's (files) apt2 end here.";
  CHECK(texts(text, english_places(text)) == Texts{"words", "and", "with", "end"});
}

TEST_CASE("Chinese blanks are two to four characters between others") {
  CHECK(texts("，中文。", chinese_places("，中文。")) == Texts{"中文"});
  CHECK(chinese_places("中文，").empty());  // the beginning of the sentence
  CHECK(chinese_places("，一。").empty());
  CHECK(chinese_places("，一二三四五。").empty());
  CHECK(texts("用 apt 安装软件 或 dpkg。", chinese_places("用 apt 安装软件 或 dpkg。")) == Texts{"安装软件"});
  CHECK(texts("apt一二三", chinese_places("apt一二三")) == Texts{"一二三"});
}

TEST_CASE("blanks are chosen in whole sentences of prose, once each, with the sentences before") {
  const auto blanks = choose_blanks(documents, 100, 1);
  std::vector<std::string> english, chinese;
  for (const Blank& blank : blanks) {
    (blank.chinese ? chinese : english).push_back(whole(blank));
    CHECK(!blank.before.empty());
    CHECK(!blank.answer.empty());
  }
  std::ranges::sort(english);
  CHECK(english == Texts{"Administrators should read the release notes before they upgrade any machine.",
                         "The package manager keeps a list of every installed file.",
                         "The package manager keeps a list of every installed file. It removes them again when the package is purged."});
  std::ranges::sort(chinese);
  CHECK(chinese == Texts{"系统管理员在升级任何机器之前 应当 阅读发行说明。", "软件包管理器 保存 所有已安装文件的列表。",
                         "软件包管理器 保存 所有已安装文件的列表。清除软件包时 dpkg 会再次 删除这些文件！"});
}

TEST_CASE("the choice depends on the sentences and the seed alone") {
  std::vector<std::string> many;
  for (int i = 0; i < 200; ++i) many.push_back("The number that was drawn this time was called " + std::to_string(i) + " by everyone present here.");
  const auto before = choose_blanks(many, 20, 1);
  REQUIRE(before.size() == 20);
  std::ranges::reverse(many);
  const auto after = choose_blanks(many, 20, 1), other = choose_blanks(many, 20, 2);
  std::set<std::string> answers;
  bool differs = false;
  for (std::size_t i = 0; i < before.size(); ++i) {
    CHECK((before[i].before == after[i].before && before[i].answer == after[i].answer && before[i].after == after[i].after));
    differs = differs || whole(before[i]) != whole(other[i]);
    answers.insert(before[i].answer);
  }
  CHECK(differs);
  CHECK(answers.size() > 4);  // not always the same place
}

TEST_CASE("context is whole sentences, 300 bytes at most, of the same paragraph") {
  std::string paragraph;
  for (char c = 'A'; c <= 'J'; ++c) paragraph += std::string(1, c) + " sentence of about fifty bytes stands here now and then. ";
  for (const Blank& blank : choose_blanks(std::vector<std::string>{"Another paragraph stands before this one here.\n" + paragraph}, 100, 1)) {
    const std::string text = whole(blank);
    CHECK(text.size() <= blank_context + 57);
    CHECK((text[1] == ' ' || text.starts_with("Another")));
    if (text.find("J sentence") != std::string::npos) CHECK(text.starts_with("E sentence"));
  }
}

TEST_CASE("answers match exactly, white space around them aside") {
  CHECK(exact_match(" word\n", "word"));
  CHECK(exact_match("系统", " 系统 "));
  CHECK(!exact_match("Word", "word"));
  CHECK(!exact_match("two words", "twowords"));
  CHECK(!exact_match("", "word"));
  CHECK(exact_match(" \n", ""));
  CHECK(trimmed(" \ttwo words\r\n") == "two words");
}

TEST_CASE("a document that is not UTF-8 is refused by name") {
  CHECK_THROWS_WITH(choose_blanks(std::vector<std::string>{"fine", "ab\xff"}, 1, 1), Catch::Contains("document 1") && Catch::Contains("byte 2"));
}
