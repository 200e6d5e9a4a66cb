// Every token of a document is scored once, whatever the window and the stride, behind the right prompt (spec 7.5).
// SPDX-License-Identifier: Apache-2.0
#include "golem/eval/bits_per_byte.hpp"

#include "catch.hpp"

using namespace golem;

namespace {
constexpr SpecialTokens special = glm_130b_tokens;
}

TEST_CASE("windows score each token once, in order, and never exceed the context") {
  for (const int length : {1, 5, 15, 16, 40, 41, 100})
    for (const int stride : {1, 4, 14}) {
      const int context = 16;
      std::vector<std::int32_t> document(static_cast<std::size_t>(length));
      for (int i = 0; i < length; ++i) document[static_cast<std::size_t>(i)] = i;
      std::vector<std::int32_t> scored;
      const BitsPerByte result = bits_per_byte(document, 3 * length, context, stride, special, [&](const Batch& batch) {
        REQUIRE(batch.length <= context);
        REQUIRE(batch.windows.size() == 1);
        const int prefix = batch.windows[0].prefix;
        REQUIRE(batch.tokens[static_cast<std::size_t>(prefix - 1)] == special.gmask);
        REQUIRE(batch.tokens[static_cast<std::size_t>(prefix)] == special.sop);
        double nats = 0;
        for (int t = 0; t < batch.length; ++t) {
          const std::int32_t target = batch.targets[static_cast<std::size_t>(t)];
          REQUIRE((target >= 0) == (t >= prefix));
          if (target < 0) continue;
          if (t > prefix) REQUIRE(batch.tokens[static_cast<std::size_t>(t)] == target - 1);  // the token before it
          if (t == prefix && prefix > 1) REQUIRE(batch.tokens[static_cast<std::size_t>(prefix - 2)] == target - 1);
          scored.push_back(target);
          nats += std::log(2.0);
        }
        return nats;
      });
      REQUIRE(scored == document);
      CHECK(result.bits == Approx(length));
      CHECK(result.value() == Approx(1.0 / 3));
    }
}

TEST_CASE("a stride that leaves no room is refused") {
  const std::vector<std::int32_t> document{1, 2, 3};
  CHECK_THROWS_WITH(bits_per_byte(document, 3, 16, 15, special, [](const Batch&) { return 0.0; }), Catch::Matchers::Contains("stride"));
}

TEST_CASE("a window that scores nothing is refused") {
  Batch batch;
  const std::vector<std::int32_t> prompt{1, 2};
  CHECK_THROWS_WITH(make_window(batch, prompt, {}, special), Catch::Matchers::Contains("no token to score"));
}
