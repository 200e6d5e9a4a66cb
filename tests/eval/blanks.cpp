// Blanks are chosen by the text alone, and are what they say.
// SPDX-License-Identifier: Apache-2.0
#include "golem/eval/blanks.hpp"

#include "catch.hpp"

using namespace golem;

namespace {

const std::vector<std::string> documents{
    "Short one. The administrator installs the package on the server and restarts the network service. Then every user can read the shared files again without any further delay!\n"
    "Another paragraph tells how the kernel finds its modules when the system starts for the first time.\n",
    "管理员在服务器上安装软件包并且重新启动网络服务。所有用户都可以再次读取共享文件而不需要等待很长时间。\nfoo = bar;\n"};

}  // namespace

TEST_CASE("a blank, put back, is the sentence") {
  const auto chosen = choose_blanks(documents, 10);
  int english = 0, chinese = 0;
  for (const Blank& blank : chosen) {
    const bool is_english = blank.language == Language::english;
    const std::string whole = blank.before + (is_english ? " " : "") + blank.answer + blank.after;
    INFO(whole);
    CHECK((documents[0].find(whole) != std::string::npos || documents[1].find(whole) != std::string::npos));
    (is_english ? english : chinese)++;
    if (is_english) {
      CHECK(blank.answer.size() >= 3);
      CHECK(blank.answer.find(' ') == std::string::npos);
      CHECK(blank.after.front() == ' ');
    } else {
      CHECK(blank.answer.size() % 3 == 0);
      CHECK((blank.answer.size() >= 6 && blank.answer.size() <= 12));
    }
  }
  CHECK(english == 3);
  CHECK(chinese == 2);
}

TEST_CASE("the choice does not depend on the order of the documents") {
  const auto forward = choose_blanks(documents, 2), backward = choose_blanks(std::vector<std::string>{documents[1], documents[0]}, 2);
  REQUIRE(forward.size() == 4);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(forward[i].before == backward[i].before);
    CHECK(forward[i].answer == backward[i].answer);
  }
}

TEST_CASE("answers match after trimming, and not otherwise") {
  CHECK(exact_match(" package\n", "package"));
  CHECK_FALSE(exact_match("packages", "package"));
  CHECK_FALSE(exact_match("pack age", "package"));
}
