// Corpora as they are written: rows and tails, whole or not at all.
// SPDX-License-Identifier: Apache-2.0
#include "golem/data/corpus_builder.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "catch.hpp"
#include "io/files.hpp"

using namespace golem;
using Catch::Contains;

namespace {

using Tokens = std::vector<std::int32_t>;

Tokens row_of(const Corpus& corpus, std::int64_t row) { return {corpus.row(row).begin(), corpus.row(row).end()}; }

/// `rows` rows of `row` tokens, which begin with `first`, and a token more.
void build_rows(const std::string& path, std::int64_t row, std::int64_t rows, std::int32_t first, FileStep step = {}) {
  CorpusBuilder builder(path, row, 100, "digest", step);
  for (std::int64_t i = 0; i < rows; ++i) builder.add(Tokens(static_cast<std::size_t>(row - 1), first), 6);
  builder.add({}, 6);
  builder.finish();
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

TEST_CASE("a corpus holds its documents with eos between them, in whole rows") {
  const test::Folder folder;
  CorpusBuilder builder(folder / "c.bin", 4, 100, "digest");
  builder.add(Tokens{10, 11, 12}, 6);
  builder.add(Tokens{20, 21, 22, 23, 24}, 6);
  CHECK(builder.tokens() == 10);
  CHECK(builder.finish().rows == 2);
  const Corpus corpus(folder / "c.bin");
  CHECK(row_of(corpus, 0) == Tokens{10, 11, 12, 6});
  CHECK(row_of(corpus, 1) == Tokens{20, 21, 22, 23});
  CHECK(corpus.header().tokenizer == "digest");
  CHECK(names_in(folder.path) == std::vector<std::string>{"c.bin", "c.bin.header"});
}

TEST_CASE("tokens outside the vocabulary, and corpora of less than a row, are refused and leave nothing") {
  const test::Folder folder;
  {
    CorpusBuilder builder(folder / "c.bin", 4, 100, "digest");
    CHECK_THROWS_WITH(builder.add(Tokens{1}, 100), Contains("token 100 does not belong"));
    CHECK_THROWS_WITH(builder.add(Tokens{100}, 6), Contains("vocabulary of 100"));
    CHECK_THROWS_WITH(builder.add(Tokens{-1}, 6), Contains("token -1"));
    builder.add(Tokens{1}, 6);
    CHECK_THROWS_WITH(builder.finish(), Contains("a corpus of 2 tokens does not fill one row of 4"));
    CHECK_THROWS_WITH(builder.split(folder / "tail.bin", 0.5), Contains("cannot be split"));
  }
  CHECK_THROWS_WITH(CorpusBuilder(folder / "c.bin", 1, 100, "digest"), Contains("rows of 1 tokens"));
  CHECK(names_in(folder.path).empty());
}

TEST_CASE("the last rows of a corpus can be another's") {
  const test::Folder folder;
  CorpusBuilder builder(folder / "c.bin", 3, 100, "digest");
  for (std::int32_t i = 0; i < 10; ++i) builder.add(Tokens{10 + i, 20 + i}, 6);
  builder.add({}, 6);  // behind the last whole row: nobody's
  CHECK(builder.split(folder / "tail.bin", 0.25).rows == 8);
  const Corpus corpus(folder / "c.bin"), tail(folder / "tail.bin");
  REQUIRE(corpus.rows() == 8);
  REQUIRE(tail.rows() == 2);
  CHECK(row_of(corpus, 7) == Tokens{17, 27, 6});
  CHECK(row_of(tail, 0) == Tokens{18, 28, 6});
  CHECK(row_of(tail, 1) == Tokens{19, 29, 6});
  CHECK_THROWS_WITH(builder.add(Tokens{1}, 6), Contains("is finished"));

  CorpusBuilder small(folder / "small.bin", 3, 100, "digest");
  for (int i = 0; i < 2; ++i) small.add(Tokens{1, 2}, 6);
  CHECK(small.split(folder / "tail.bin", 0.02).rows == 1);  // at least one row
  CHECK(Corpus(folder / "tail.bin").rows() == 1);
}

TEST_CASE("a long corpus goes to the disk as it comes") {
  const test::Folder folder;
  CorpusBuilder builder(folder / "c.bin", 1000, 1 << 30, "digest");
  Tokens document(99'999);
  for (std::int32_t d = 0; d < 30; ++d) {
    for (std::size_t i = 0; i < document.size(); ++i) document[i] = d * 100'000 + static_cast<std::int32_t>(i);
    builder.add(document, d * 100'000 + 99'999);
  }
  CHECK(std::filesystem::file_size(folder / "c.bin.partial") > 2'000'000 * sizeof(std::int32_t));
  builder.finish();
  const Corpus corpus(folder / "c.bin");
  REQUIRE(corpus.rows() == 3000);
  bool all = true;
  for (std::int64_t row = 0; row < corpus.rows(); ++row) {
    const auto tokens = corpus.row(row);
    for (std::int64_t i = 0; i < 1000; ++i) all = all && tokens[static_cast<std::size_t>(i)] == row * 1000 + i;
  }
  CHECK(all);
}

TEST_CASE("a process killed at any step of building a corpus leaves the old one, the new one, or a sentence") {
  int old = 0, replaced = 0, told = 0;
  bool finished = false;
  for (int fatal = 1; !finished; ++fatal) {
    const test::Folder folder;
    build_rows(folder / "c.bin", 5, 4, 10);
    const ::pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      int step = 0;
      build_rows(folder / "c.bin", 7, 3, 20, [&](std::string_view, const std::string&) {
        if (++step == fatal) ::raise(SIGKILL);
      });
      ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    finished = WIFEXITED(status);
    INFO("killed at step " << fatal);
    const std::string error = test::error_of([&] {
      const Corpus corpus(folder / "c.bin");
      const bool is_new = corpus.header().row == 7;
      REQUIRE(corpus.rows() == (is_new ? 3 : 4));
      REQUIRE(row_of(corpus, 0).front() == (is_new ? 20 : 10));
      ++(is_new ? replaced : old);
    });
    if (error != "no error") {
      CHECK(error.find("c.bin.header") != error.npos);
      ++told;
    }
    build_rows(folder / "c.bin", 5, 2, 30);  // the next goes on as if nothing had been
    CHECK(Corpus(folder / "c.bin").rows() == 2);
    CHECK(names_in(folder.path) == std::vector<std::string>{"c.bin", "c.bin.header"});
  }
  CHECK(old >= 5);
  CHECK(replaced >= 1);
  CHECK(told >= 1);
}

TEST_CASE("a full disk leaves the corpus that was there, and nothing else") {
  const test::Folder folder;
  build_rows(folder / "c.bin", 5, 4, 10);
  for (std::size_t space = 0; space < 2000; space += 100) {
    const std::string error = test::error_of([&] {
      const test::FullDisk full(space);
      build_rows(folder / "c.bin", 50, 10, 20);
    });
    CHECK(error.find("cannot write byte") != error.npos);
    CHECK(Corpus(folder / "c.bin").header().row == 5);
    CHECK(names_in(folder.path) == std::vector<std::string>{"c.bin", "c.bin.header"});
  }
}
