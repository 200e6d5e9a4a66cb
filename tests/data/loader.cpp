// The loader: every sample is a function of its number, whoever asks for it, and a saved loader goes on as if nothing had been.
// SPDX-License-Identifier: Apache-2.0
#include "golem/data/loader.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "catch.hpp"
#include "data/small_corpus.hpp"

using namespace golem;
using test::counted_corpus, test::special;

namespace {

// A state in memory: what a checkpoint does, for numbers.
struct Memory : StateVisitor {
  std::map<std::string, std::int64_t> values;
  std::map<std::string, double> reals;
  bool reading = false;
  void integer(std::string_view name, std::int64_t& value) override {
    reading ? value = values.at(std::string(name)) : values[std::string(name)] = value;
  }
  void real(std::string_view name, double& value) override { reading ? value = reals.at(std::string(name)) : reals[std::string(name)] = value; }
  void text(std::string_view, std::string&) override {}
  void tensor(const TensorState&) override {}
  bool loading() const override { return reading; }
};

std::string build_instructions(const test::Folder& folder, int pairs, const std::string& tokenizer = "digest") {
  InstructionBuilder builder(1000, tokenizer);
  for (std::int32_t i = 0; i < pairs; ++i) builder.add(std::vector<std::int32_t>(static_cast<std::size_t>(3 + i % 5), 910 + i % 80), std::vector<std::int32_t>{20, 21});
  builder.write(folder / "instructions.bin");
  return folder / "instructions.bin";
}

}  // namespace

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
  const test::Folder folder;
  const BlankRecipe r = recipe(64);
  const Corpus corpus(counted_corpus(folder, r.row, r.row * 30));
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
  const test::Folder folder;
  const BlankRecipe r = recipe(64);
  const Corpus corpus(counted_corpus(folder, r.row, r.row * 30));
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
  const test::Folder folder;
  const BlankRecipe r = recipe(64);
  const Corpus corpus(counted_corpus(folder, r.row, r.row * 30));
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
  const test::Folder folder;
  const BlankRecipe r = recipe(64);
  const test::Folder elsewhere;
  const Corpus corpus(counted_corpus(folder, r.row, r.row * 30)), other(counted_corpus(elsewhere, r.row, r.row * 20));
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
  BlankRecipe mostly_blanks = r;
  mostly_blanks.generation = 0.25;
  Loader of_blanks(corpus, mostly_blanks, special), of_other_spans(corpus, recipe(64, 1, 0.25), special);
  CHECK_THROWS_WITH(of_blanks.visit_state(state), Catch::Matchers::Contains("made a [gMASK] sample of 0.7 of its rows, and this one makes it of 0.25"));
  CHECK_THROWS_WITH(of_other_spans.visit_state(state), Catch::Matchers::Contains("made blanks of 3 tokens over 0.15 of the text, and this one makes them of 1 over 0.25"));
  state.values["loader.position"] = -1;
  CHECK_THROWS_WITH(second.visit_state(state), Catch::Matchers::Contains("cannot go to sample -1"));
  CHECK_THROWS_WITH(second.next(0), Catch::Matchers::Contains("at least 1"));
}

TEST_CASE("blanks of a row change from epoch to epoch, and those of the validation rows never") {
  const test::Folder folder;
  const BlankRecipe r = recipe(64);
  const Corpus corpus(counted_corpus(folder, r.row, r.row * 5));
  Loader training(corpus, r, special), validation(corpus, r, special, {.order = LoaderOptions::Order::stored});
  const auto epoch = [&](Loader& loader) {
    const Batch& batch = loader.next(5);
    return std::multiset<std::int32_t>(batch.targets.begin(), batch.targets.end());
  };
  CHECK(epoch(training) != epoch(training));
  const std::vector<std::int32_t> tokens = validation.next(5).tokens;
  CHECK(validation.next(5).tokens == tokens);
}

TEST_CASE("rows of an epoch begin elsewhere than those of the epochs before, but the last; validation rows and the first epoch's where they lie") {
  const test::Folder folder;
  BlankRecipe r = recipe(64);
  r.generation = 1;
  const Corpus corpus(counted_corpus(folder, r.row, r.row * 12));
  Loader training(corpus, r, special), validation(corpus, r, special, {.order = LoaderOptions::Order::stored});
  const auto begins = [&](Loader& loader) {  // tokens behind the nearest row's beginning
    std::multiset<std::int32_t> all;
    for (int i = 0; i < 12; ++i)
      if (const std::int32_t first = loader.next(1).tokens[0]; first != special.gmask) all.insert((first - 10) % r.row);
    return all;
  };
  std::set<std::int32_t> places;
  for (int epoch = 0; epoch < 8; ++epoch) {
    const auto all = begins(training), stored = begins(validation);
    CHECK(std::set<std::int32_t>(stored.begin(), stored.end()) == std::set<std::int32_t>{0});
    const std::int32_t usual = *std::max_element(all.begin(), all.end());
    if (usual > 0) CHECK((all.count(usual) + all.count(0) == all.size() && all.count(0) <= 1));
    CHECK((usual == 0) == (epoch == 0));
    places.insert(usual);
  }
  CHECK(places.size() == 8);
  CHECK(corpus.row(3, 5).front() == corpus.row(3).front() + 5);
  CHECK(corpus.row(3, 5).back() == corpus.row(4)[4]);
  CHECK(corpus.row(11, 5).front() == corpus.row(11).front());
  CHECK_THROWS_WITH(corpus.row(3, r.row), Catch::Matchers::Contains("fewer than the 63 of a row"));
}

TEST_CASE("in the original's order the rows are GLM-130B's, token for token") {
  const test::Folder folder;
  CorpusBuilder builder(folder / "train.bin", 2000, 150528, "digest");
  std::vector<std::int32_t> document;
  for (std::int32_t i = 0; i < 2000 * 40; ++i) document.push_back(20100 + i % 120000);
  builder.add(document, glm_130b_tokens.eos);
  builder.finish();
  const Corpus corpus(folder / "train.bin");
  Loader loader(corpus, glm_130b_recipe, glm_130b_tokens, {.order = RowOrder::glm_130b});
  const Glm130bRows rows(Glm130bRows::Part::training);
  BlankInfilling infilling(glm_130b_recipe, glm_130b_tokens);
  CHECK(loader.rows() == rows.size(40));
  std::set<std::int64_t> drawn;
  for (std::int64_t s = 0; s < 60; ++s) {
    const std::int64_t row = rows.row(glm_130b_item(s, loader.rows()));
    Sample sample;
    infilling.make(sample, corpus.row(row), static_cast<std::uint64_t>(row));
    const Batch& batch = loader.next(1);
    REQUIRE(batch.tokens == sample.tokens);
    REQUIRE(batch.positions == sample.positions);
    REQUIRE(batch.windows == sample.windows);
    for (std::size_t i = 0; i < sample.labels.size(); ++i) REQUIRE(batch.targets[i] == (sample.scored[i] ? sample.labels[i] : -1));
    drawn.insert(row);
  }
  CHECK(drawn.size() > 20);
  Loader held_out(corpus, glm_130b_recipe, glm_130b_tokens, {.order = RowOrder::glm_130b, .part = Glm130bRows::Part::validation});
  CHECK(held_out.rows() == 40 - loader.rows());
}

TEST_CASE("instructions are rows of a task of their own, and every rank of any layout sees its share of the same ones") {
  const test::Folder folder;
  const BlankRecipe r = recipe(600);  // two windows
  const Corpus corpus(counted_corpus(folder, r.row, r.row * 30));
  const InstructionSet set(build_instructions(folder, 11));
  for (const RowOrder order : {RowOrder::shuffled, RowOrder::glm_130b}) {
    const LoaderOptions options{.order = order, .instructions = &set, .mix = {.part = 0.25}};
    const auto of_rank = [&](int rank, int ranks) {
      LoaderOptions mine = options;
      mine.rank = rank, mine.ranks = ranks;
      return Loader(corpus, r, special, mine);
    };
    Loader whole(corpus, r, special, options), first = of_rank(0, 2), second = of_rank(1, 2);
    int instructions = 0;
    for (int i = 0; i < 10; ++i) {
      const Batch all = whole.next(4), left = first.next(2), right = second.next(2);
      std::vector<std::int32_t> parts = left.tokens;
      parts.insert(parts.end(), right.tokens.begin(), right.tokens.end());
      REQUIRE(all.tokens == parts);
      for (std::size_t row = 0; row < 4; ++row) {
        if (all.tasks[row] != Task::instruction) continue;
        ++instructions;
        REQUIRE(all.first_window[row + 1] - all.first_window[row] == 2);
        const Window& window = all.windows[static_cast<std::size_t>(all.first_window[row])];
        CHECK(all.tokens[row * 600 + static_cast<std::size_t>(window.prefix) - 1] == special.mask);
        CHECK(all.targets[row * 600 + static_cast<std::size_t>(window.prefix)] == 20);
        CHECK(all.targets[row * 600 + static_cast<std::size_t>(window.prefix) + 2] == special.eop);
      }
    }
    if (order == RowOrder::shuffled) CHECK(instructions == 10);
    CHECK((instructions > 3 && instructions < 20));
  }
}

TEST_CASE("a run with instructions resumes exactly; new ones begin where a run goes on; others are refused") {
  const test::Folder folder, elsewhere;
  const BlankRecipe r = recipe(64);
  const Corpus corpus(counted_corpus(folder, r.row, r.row * 30));
  const InstructionSet set(build_instructions(folder, 11)), other(build_instructions(elsewhere, 12));
  for (const RowOrder order : {RowOrder::shuffled, RowOrder::glm_130b}) {
    const LoaderOptions options{.order = order, .instructions = &set, .mix = {.part = 0.3, .from = 10, .ramp = 40}};
    Loader whole(corpus, r, special, options), first(corpus, r, special, options), second(corpus, r, special, {.order = order, .instructions = &set});
    for (int i = 0; i < 11; ++i) whole.next(3), first.next(3);
    Memory state;
    first.visit_state(state);
    state.reading = true;
    second.visit_state(state);  // the mixture comes from the state
    for (int i = 0; i < 15; ++i) REQUIRE(Batch(whole.next(3)).tokens == second.next(3).tokens);
    Loader stranger(corpus, r, special, {.order = order, .instructions = &other}), without(corpus, r, special, {.order = order});
    CHECK_THROWS_WITH(stranger.visit_state(state), Catch::Matchers::Contains("had 11 instructions") && Catch::Matchers::Contains("here are 12"));
    CHECK_THROWS_WITH(without.visit_state(state), Catch::Matchers::Contains("go on with those"));
    Loader otherwise(corpus, r, special, {.order = order == RowOrder::shuffled ? RowOrder::glm_130b : RowOrder::shuffled, .instructions = &set});
    CHECK_THROWS_WITH(otherwise.visit_state(state), Catch::Matchers::Contains("in another order"));
  }
  Loader text(corpus, r, special), added(corpus, r, special, {.instructions = &set, .mix = {.part = 0.5}});
  for (int i = 0; i < 7; ++i) text.next(3);
  Memory state;
  text.visit_state(state);
  state.reading = true;
  added.visit_state(state);
  const Batch expected = text.next(2), found = added.next(2);
  CHECK(std::equal(expected.tokens.begin(), expected.tokens.begin() + 64, found.tokens.begin()));  // the rows of text go on as before
  CHECK(found.tasks[1] == Task::instruction);
  const test::Folder foreign_folder;
  const InstructionSet foreign(build_instructions(foreign_folder, 3, "another"));
  CHECK_THROWS_WITH(Loader(corpus, r, special, {.instructions = &foreign}), Catch::Matchers::Contains("another tokenizer"));
}

TEST_CASE("a saved mix of instructions that there cannot be is refused, and leaves the loader as it was") {
  const test::Folder folder;
  const BlankRecipe r = recipe(64);
  const Corpus corpus(counted_corpus(folder, r.row, r.row * 30));
  const InstructionSet set(build_instructions(folder, 11));
  const LoaderOptions options{.instructions = &set, .mix = {.part = 0.3, .from = 10, .ramp = 40}};
  Loader saved(corpus, r, special, options), loaded(corpus, r, special, options), fresh(corpus, r, special, options);
  saved.next(5);
  Memory state;
  saved.visit_state(state);
  state.reading = true;
  for (const double part : {std::nan(""), 5.0, 0.0, -0.5}) {
    Memory wrong = state;
    wrong.reals["loader.instructions_part"] = part;
    CHECK_THROWS_WITH(loaded.visit_state(wrong), Catch::Matchers::Contains("the part must be above 0"));
  }
  for (const char* name : {"loader.instructions_from", "loader.instructions_ramp"}) {
    Memory wrong = state;
    wrong.values[name] = -1;
    CHECK_THROWS_WITH(loaded.visit_state(wrong), Catch::Matchers::Contains("not below 0"));
  }
  CHECK(loaded.position() == 0);
  CHECK(loaded.next(3).tokens == fresh.next(3).tokens);
}
