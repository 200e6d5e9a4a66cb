// Documents, corpora and the loader: what is read is proved, and every sample is a function of its number.
// SPDX-License-Identifier: Apache-2.0
#include "golem/data/corpus.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>

#include "catch.hpp"
#include "golem/data/documents.hpp"
#include "golem/data/loader.hpp"

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

// A state in memory: what a checkpoint does, for integers.
struct Memory : StateVisitor {
  std::map<std::string, std::int64_t> values;
  bool reading = false;
  void integer(std::string_view name, std::int64_t& value) override {
    reading ? value = values.at(std::string(name)) : values[std::string(name)] = value;
  }
  void real(std::string_view, double&) override {}
  void text(std::string_view, std::string&) override {}
  void tensor(const TensorState&) override {}
  bool loading() const override { return reading; }
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

TEST_CASE("shuffled is a bijection, and another one for another key") {
  for (const std::int64_t n : {1, 2, 3, 10, 64, 1000}) {
    std::set<std::int64_t> seen;
    int same = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t place = shuffled(i, n, {1, 2});
      REQUIRE((place >= 0 && place < n));
      seen.insert(place);
      same += place == shuffled(i, n, {2, 2});
    }
    CHECK(seen.size() == static_cast<std::size_t>(n));
    if (n == 1000) CHECK(same < 20);
  }
}

TEST_CASE("an epoch sees each row once; samples depend on nothing but their number") {
  const Folder folder;
  const BlankRecipe r = recipe(64);
  const Corpus corpus(build(folder, r.row, r.row * 30));
  Loader by_one(corpus, r, special), by_seven(corpus, r, special);
  std::vector<std::int32_t> tokens_one, tokens_seven;
  for (int i = 0; i < 70; ++i) {
    const Batch& b = by_one.next(1);
    tokens_one.insert(tokens_one.end(), b.tokens.begin(), b.tokens.end());
  }
  for (int i = 0; i < 10; ++i) {
    const Batch& b = by_seven.next(7);
    REQUIRE(b.tokens.size() == 7 * 64);
    REQUIRE(b.first_window.size() == 8);
    tokens_seven.insert(tokens_seven.end(), b.tokens.begin(), b.tokens.end());
  }
  CHECK(tokens_one == tokens_seven);
  Loader later(corpus, r, special);
  later.seek(63);
  const std::vector<std::int32_t> tail(tokens_seven.end() - 7 * 64, tokens_seven.end());
  CHECK(later.next(7).tokens == tail);
  CHECK(later.position() == 70);
}

TEST_CASE("ranks share each batch: together they see what one rank sees") {
  const Folder folder;
  const BlankRecipe r = recipe(64);
  const Corpus corpus(build(folder, r.row, r.row * 30));
  Loader whole(corpus, r, special), first(corpus, r, special, {.rank = 0, .ranks = 2}), second(corpus, r, special, {.rank = 1, .ranks = 2});
  for (int i = 0; i < 5; ++i) {
    const std::vector<std::int32_t> all = whole.next(4).tokens;
    std::vector<std::int32_t> parts = first.next(2).tokens;
    const std::vector<std::int32_t> rest = second.next(2).tokens;
    parts.insert(parts.end(), rest.begin(), rest.end());
    CHECK(all == parts);
  }
}

TEST_CASE("skipping moves the data on; another seed changes the order") {
  const Folder folder;
  const BlankRecipe r = recipe(64);
  const Corpus corpus(build(folder, r.row, r.row * 30));
  Loader a(corpus, r, special), b(corpus, r, special), c(corpus, r, special);
  const std::vector<std::int32_t> second = (a.next(5), a.next(5).tokens);
  b.skip(5);
  CHECK(b.position() == 5);
  CHECK(b.next(5).tokens == second);
  c.reshuffle(99);
  Loader e(corpus, r, special);
  CHECK(c.next(5).tokens != e.next(5).tokens);
  CHECK_THROWS_WITH(c.skip(-1), Catch::Matchers::Contains("only forward"));
  CHECK_THROWS_WITH(Loader(corpus, recipe(128), special), Catch::Matchers::Contains("build the corpus for this context"));
}

TEST_CASE("a loader that was saved and loaded goes on as if nothing had been") {
  const Folder folder;
  const BlankRecipe r = recipe(64);
  const Corpus corpus(build(folder, r.row, r.row * 30)), other(build(Folder(), r.row, r.row * 20));
  Loader whole(corpus, r, special), first(corpus, r, special), second(corpus, r, special, {.seed = 5});
  whole.reshuffle(77), first.reshuffle(77);
  for (int i = 0; i < 11; ++i) whole.next(3), first.next(3);
  Memory state;
  first.visit_state(state);
  state.reading = true;
  second.visit_state(state);
  for (int i = 0; i < 15; ++i) {
    const Batch& a = whole.next(3);
    const Batch& b = second.next(3);
    REQUIRE(a.tokens == b.tokens);
    REQUIRE(a.targets == b.targets);
    REQUIRE(a.windows == b.windows);
  }
  Loader stranger(other, r, special);
  CHECK_THROWS_WITH(stranger.visit_state(state), Catch::Matchers::Contains("a corpus of 30 rows, and this one has 20"));
  state.values["loader.position"] = -1;
  CHECK_THROWS_WITH(second.visit_state(state), Catch::Matchers::Contains("cannot go to sample -1"));
  CHECK_THROWS_WITH(second.next(0), Catch::Matchers::Contains("at least 1"));
}

TEST_CASE("blanks of a row change from epoch to epoch, and those of the validation rows never") {
  const Folder folder;
  const BlankRecipe r = recipe(64);
  const Corpus corpus(build(folder, r.row, r.row * 5));
  Loader training(corpus, r, special), validation(corpus, r, special, {.order = LoaderOptions::Order::stored});
  const auto epoch = [&](Loader& loader) {
    const Batch& batch = loader.next(5);
    return std::multiset<std::int32_t>(batch.targets.begin(), batch.targets.end());
  };
  CHECK(epoch(training) != epoch(training));
  const std::vector<std::int32_t> tokens = validation.next(5).tokens;
  CHECK(validation.next(5).tokens == tokens);
}
