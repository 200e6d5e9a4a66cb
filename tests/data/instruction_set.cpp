// Instruction files: what is written comes back, and what was damaged is refused.
// SPDX-License-Identifier: Apache-2.0
#include "golem/data/instruction_set.hpp"

#include "catch.hpp"
#include "io/files.hpp"

using namespace golem;

namespace {

using Tokens = std::vector<std::int32_t>;

Tokens all(std::span<const std::int32_t> tokens) { return {tokens.begin(), tokens.end()}; }

void build_pairs(const std::string& path) {
  InstructionBuilder builder(100, "digest");
  builder.add(Tokens{1, 2, 3}, Tokens{4});
  builder.add(Tokens{}, Tokens{5, 6});
  builder.add(Tokens{7}, Tokens{});
  builder.write(path);
}

}  // namespace

TEST_CASE("pairs come back as they were given, empty ones too") {
  const test::Folder folder;
  build_pairs(folder / "set");
  const InstructionSet set(folder / "set");
  REQUIRE(set.pairs() == 3);
  CHECK(set.tokenizer() == "digest");
  CHECK(all(set.text(0)) == Tokens{1, 2, 3});
  CHECK(all(set.target(0)) == Tokens{4});
  CHECK(all(set.text(1)).empty());
  CHECK(all(set.target(1)) == Tokens{5, 6});
  CHECK(all(set.text(2)) == Tokens{7});
  CHECK(all(set.target(2)).empty());
  CHECK_THROWS_WITH(set.text(3), Catch::Matchers::Contains("which has 3"));
  CHECK_THROWS_WITH(set.target(-1), Catch::Matchers::Contains("pair -1"));
}

TEST_CASE("foreign tokens, and no pair at all, are refused") {
  const test::Folder folder;
  InstructionBuilder builder(100, "digest");
  CHECK_THROWS_WITH(builder.write(folder / "set"), Catch::Matchers::Contains("at least one text"));
  CHECK_THROWS_WITH(builder.add(Tokens{100}, Tokens{}), Catch::Matchers::Contains("vocabulary of 100"));
  CHECK_THROWS_WITH(InstructionBuilder(100, std::string(65, 'a')), Catch::Matchers::Contains("65 characters"));
}

TEST_CASE("a damaged file is refused, or what it gives is in its vocabulary") {
  const test::Folder folder;
  build_pairs(folder / "set");
  const std::string sound = test::read(folder / "set");
  for (std::size_t length = 0; length < sound.size(); ++length) {
    test::write(folder / "cut", sound.substr(0, length));
    CHECK_THROWS_AS(InstructionSet(folder / "cut"), Error);
  }
  std::string crossed = sound;
  crossed[sizeof(InstructionHeader) + sizeof(std::int64_t)] = 6;  // the first target would begin behind its end
  test::write(folder / "crossed", crossed);
  CHECK_THROWS_WITH(InstructionSet(folder / "crossed").target(0), Catch::Matchers::Contains("lies outside it"));
  int refused = 0;
  for (std::size_t byte = 0; byte < sound.size(); ++byte)
    for (const char value : {'\x7f', '\xff', '\x06', '\x01'}) {
      std::string changed = sound;
      changed[byte] = value;
      test::write(folder / "changed", changed);
      try {
        const InstructionSet set(folder / "changed");
        for (std::int64_t i = 0; i < set.pairs(); ++i)
          for (const auto& part : {set.text(i), set.target(i)})
            for (const std::int32_t token : part) REQUIRE(token >= 0);
      } catch (const Error&) {
        ++refused;
      }
    }
  CHECK(refused > 100);
}
