// Documents and corpora: what is read is proved.
// SPDX-License-Identifier: Apache-2.0
#include "golem/data/corpus.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "catch.hpp"
#include "golem/config/special_tokens.hpp"
#include "golem/data/documents.hpp"

using namespace golem;

namespace {

// A folder of its own, removed in the end.
struct Folder {
  std::string path;
  Folder() {
    char name[] = "/tmp/golem_corpus_XXXXXX";
    path = mkdtemp(name);
  }
  ~Folder() { static_cast<void>(std::system(("rm -rf '" + path + "'").c_str())); }
  std::string file(const std::string& name, const std::string& text) const {
    std::ofstream(path + "/" + name, std::ios::binary) << text;
    return path + "/" + name;
  }
};

constexpr SpecialTokens special{.mask = 1, .gmask = 2, .smask = 3, .sop = 4, .eop = 5, .eos = 6, .newline = 7, .pad = 0};

std::string build(const Folder& folder, int row, int tokens) {
  CorpusBuilder builder(row, 1000, "digest");
  std::vector<std::int32_t> document;
  for (int i = 0; i < tokens; ++i) document.push_back(10 + i % 900);
  builder.add(document, special.eos);
  builder.write(folder.path + "/train.bin");
  return folder.path + "/train.bin";
}

}  // namespace

TEST_CASE("documents are read in the order of their names, through folders") {
  const Folder folder;
  mkdir((folder.path + "/b").c_str(), 0755);
  folder.file("c.txt", "third"), folder.file("a.txt", "first"), folder.file("b/x.txt", "second"), folder.file("empty.txt", " \n"),
      folder.file(".hidden", "no");
  const auto documents = read_documents(folder.path);
  REQUIRE(documents.size() == 3);
  CHECK(documents[0].text == "first");
  CHECK(documents[1].text == "second");
  CHECK(documents[2].text == "third");
}

TEST_CASE("links to folders are passed over, and what is neither file nor folder is refused") {
  const Folder folder;
  folder.file("a.txt", "first");
  REQUIRE(symlink(folder.path.c_str(), (folder.path + "/circle").c_str()) == 0);
  REQUIRE(symlink("a.txt", (folder.path + "/b.txt").c_str()) == 0);
  CHECK(read_documents(folder.path).size() == 2);
  REQUIRE(mkfifo((folder.path + "/pipe").c_str(), 0644) == 0);
  CHECK_THROWS_WITH(read_documents(folder.path), Catch::Matchers::Contains("pipe' cannot be read as text: it is no regular file"));
}

TEST_CASE("what is no text is refused by name, byte and remedy") {
  const Folder folder;
  folder.file("bad.txt", "fine until \xff here");
  CHECK_THROWS_WITH(read_documents(folder.path), Catch::Matchers::Contains("bad.txt' is not UTF-8 at byte 11") && Catch::Matchers::Contains("iconv"));
  folder.file("bad.txt", std::string("a\0b", 3));
  CHECK_THROWS_WITH(read_documents(folder.path), Catch::Matchers::Contains("byte 1 is NUL"));
  folder.file("bad.txt", "");
  CHECK_THROWS_WITH(read_documents(folder.path), Catch::Matchers::Contains("no text"));
  CHECK_THROWS_WITH(read_documents(folder.path + "/none"), Catch::Matchers::Contains("No such file"));
}

TEST_CASE("a corpus holds its documents with eos between them, in whole rows") {
  const Folder folder;
  CorpusBuilder builder(4, 100, "digest");
  builder.add(std::vector<std::int32_t>{10, 11, 12}, 6);
  builder.add(std::vector<std::int32_t>{20, 21, 22, 23, 24}, 6);
  const CorpusHeader header = builder.write(folder.path + "/c.bin");
  CHECK(header.rows == 2);
  const Corpus corpus(folder.path + "/c.bin");
  CHECK(std::vector<std::int32_t>(corpus.row(0).begin(), corpus.row(0).end()) == std::vector<std::int32_t>{10, 11, 12, 6});
  CHECK(std::vector<std::int32_t>(corpus.row(1).begin(), corpus.row(1).end()) == std::vector<std::int32_t>{20, 21, 22, 23});
  CHECK(corpus.header().tokenizer == "digest");
  CHECK_THROWS_WITH(builder.add(std::vector<std::int32_t>{1}, 100), Catch::Matchers::Contains("token 100 does not belong"));
  CHECK_THROWS_WITH(builder.add(std::vector<std::int32_t>{100}, 6), Catch::Matchers::Contains("vocabulary of 100"));
  CHECK_THROWS_WITH(CorpusBuilder(50, 100, "d").write(folder.path + "/d.bin"), Catch::Matchers::Contains("does not fill one row"));
}

TEST_CASE("a corpus that was cut, changed or lies is refused") {
  const Folder folder;
  const std::string path = build(folder, 50, 500);
  const Corpus sound(path);
  std::ofstream(path, std::ios::binary | std::ios::in).seekp(8).write("\xff\xff\xff\x7f", 4);
  CHECK_THROWS_WITH(Corpus(path).row(0), Catch::Matchers::Contains("the file is damaged"));
  truncate(path.c_str(), 1001);
  CHECK_THROWS_WITH(Corpus(path), Catch::Matchers::Contains("build the corpus again"));
  for (const char* header :
       {"", "golem corpus 2\nrow 50\nrows 10\nvocab 1000\ntokenizer x\n", "golem corpus 1\nrow -1\nrows 10\nvocab 1000\ntokenizer x\n",
        "golem corpus 1\nrow 50\nrows 99999999999999999999\nvocab 1000\ntokenizer x\n", "nonsense"}) {
    folder.file("train.bin.header", header);
    CHECK_THROWS_AS(Corpus(path), Error);
  }
}

TEST_CASE("a full disk leaves what was there") {
  const Folder folder;
  const std::string path = folder.file("old.bin", "precious");
  CHECK_THROWS_WITH(corpus::write_file("/dev/full/x", "y", 1), Catch::Matchers::Contains("/dev/full"));
  mkdir((path + ".part").c_str(), 0755);  // the temporary file cannot be made
  CHECK_THROWS_WITH(corpus::write_file(path, "new", 3), Catch::Matchers::Contains("cannot be written"));
  std::string text;
  std::ifstream(path) >> text;
  CHECK(text == "precious");
}

TEST_CASE("a corpus that cannot be replaced stays as it was; one that is half replaced is told") {
  const Folder folder;
  const std::string path = build(folder, 50, 500);
  mkdir((path + ".header.part").c_str(), 0755);  // the header cannot be staged
  CHECK_THROWS_WITH(build(folder, 10, 500), Catch::Matchers::Contains("cannot be written"));
  CHECK(Corpus(path).header().row == 50);
  CHECK(access((path + ".part").c_str(), F_OK) != 0);
  std::remove((path + ".header").c_str());
  CHECK_THROWS_WITH(Corpus(path), Catch::Matchers::Contains("train.bin.header"));
}
