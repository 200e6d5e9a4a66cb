// Documents and corpora: what is read is proved.
// SPDX-License-Identifier: Apache-2.0
#include "golem/data/corpus.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "catch.hpp"
#include "data/small_corpus.hpp"
#include "golem/data/documents.hpp"

using namespace golem;
using test::counted_corpus;

TEST_CASE("a text that is cut while it is read is a sentence") {
  const std::string shorter = "/sys/kernel/mm/transparent_hugepage/enabled";  // as long as a page, it says
  struct stat status {};
  if (stat(shorter.c_str(), &status) == 0 && status.st_size > 100)
    CHECK_THROWS_WITH(read_document(shorter), Catch::Matchers::Contains(" while it was read: let no other program write to the text"));
  const test::Folder folder;
  REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK_THROWS_WITH(read_document(folder / "pipe"), Catch::Matchers::Contains("is no file with a size"));
  CHECK_THROWS_WITH(read_document("/no/such/text"), Catch::Matchers::Contains("cannot open '/no/such/text': No such file"));
}

TEST_CASE("documents are read in the order of their names, through folders") {
  const test::Folder folder;
  mkdir((folder.path + "/b").c_str(), 0755);
  test::write(folder / "c.txt", "third"), test::write(folder / "a.txt", "first"), test::write(folder / "b/x.txt", "second"), test::write(folder / "empty.txt", " \n"),
      test::write(folder / ".hidden", "no");
  const auto documents = read_documents(folder.path);
  REQUIRE(documents.size() == 3);
  CHECK(document_bytes(folder.path) == 18);  // the empty one too
  CHECK(documents[0].text == "first");
  CHECK(documents[1].text == "second");
  CHECK(documents[2].text == "third");
}

TEST_CASE("links to folders are passed over, and what is neither file nor folder is refused") {
  const test::Folder folder;
  test::write(folder / "a.txt", "first");
  REQUIRE(symlink(folder.path.c_str(), (folder.path + "/circle").c_str()) == 0);
  REQUIRE(symlink("a.txt", (folder.path + "/b.txt").c_str()) == 0);
  CHECK(read_documents(folder.path).size() == 2);
  REQUIRE(mkfifo((folder.path + "/pipe").c_str(), 0644) == 0);
  CHECK_THROWS_WITH(read_documents(folder.path), Catch::Matchers::Contains("pipe' cannot be read as text: it is no regular file"));
}

TEST_CASE("what is no text is refused by name, byte and remedy") {
  const test::Folder folder;
  test::write(folder / "bad.txt", "fine until \xff here");
  CHECK_THROWS_WITH(read_documents(folder.path), Catch::Matchers::Contains("bad.txt' is not UTF-8 at byte 11") && Catch::Matchers::Contains("iconv"));
  test::write(folder / "bad.txt", std::string("a\0b", 3));
  CHECK_THROWS_WITH(read_documents(folder.path), Catch::Matchers::Contains("byte 1 is NUL"));
  test::write(folder / "bad.txt", "");
  CHECK_THROWS_WITH(read_documents(folder.path), Catch::Matchers::Contains("no text"));
  CHECK_THROWS_WITH(read_documents(folder.path + "/none"), Catch::Matchers::Contains("No such file"));
}

TEST_CASE("a corpus that was cut, changed or lies is refused") {
  const test::Folder folder;
  const std::string path = counted_corpus(folder, 50, 500);
  const Corpus sound(path);
  std::ofstream(path, std::ios::binary | std::ios::in).seekp(8).write("\xff\xff\xff\x7f", 4);
  CHECK_THROWS_WITH(Corpus(path).row(0), Catch::Matchers::Contains("the file is damaged"));
  truncate(path.c_str(), 1001);
  CHECK_THROWS_WITH(Corpus(path), Catch::Matchers::Contains("build the corpus again"));
  for (const char* header :
       {"", "golem corpus 2\nrow 50\nrows 10\nvocab 1000\ntokenizer x\n", "golem corpus 1\nrow -1\nrows 10\nvocab 1000\ntokenizer x\n",
        "golem corpus 1\nrow 50\nrows 99999999999999999999\nvocab 1000\ntokenizer x\n", "nonsense"}) {
    test::write(folder / "train.bin.header", header);
    CHECK_THROWS_AS(Corpus(path), Error);
  }
}
