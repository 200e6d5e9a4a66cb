// Prompts, positions and prefixes as in the spec's worked examples (spec 2.2, 2.3).
// SPDX-License-Identifier: Apache-2.0
#include "golem/infer/prompt.hpp"

#include "catch.hpp"

using namespace golem;

namespace {
constexpr SpecialTokens icetk = glm_130b_tokens;
constexpr std::int32_t M = icetk.mask, G = icetk.gmask, S = icetk.smask, sop = icetk.sop;
using Ids = std::vector<std::int32_t>;
}  // namespace

TEST_CASE("a blank in the middle: sop and all that is generated stand at the mask's position") {
  const Prompt prompt = make_prompt({10, 11, M, 13, 14}, icetk);
  CHECK(prompt.tokens == Ids{10, 11, M, 13, 14, sop});
  CHECK(prompt.positions == Ids{0, 1, 2, 3, 4, 2});
  CHECK(prompt.position(0) == 2);
  CHECK(prompt.position(7) == 2);
  CHECK(prompt.prefix() == 5);  // everything but sop
}

TEST_CASE("text without a mask is continued behind [gMASK], at plain positions") {
  const Prompt prompt = make_prompt({10, 11, 12, 13, 14}, icetk);
  CHECK(prompt.tokens == Ids{10, 11, 12, 13, 14, G, sop});
  CHECK(prompt.positions == Ids{0, 1, 2, 3, 4, 5, 6});
  CHECK(prompt.position(0) == 7);
  CHECK(prompt.position(2) == 9);
  CHECK(prompt.prefix() == 6);
}

TEST_CASE("[MASK] is filled before [sMASK], and that before [gMASK]; the left-most first") {
  CHECK(next_mask({1, G, S, 2, M, M}, icetk) == 4);
  CHECK(next_mask({1, G, S, 2, S}, icetk) == 2);
  CHECK(next_mask({1, G}, icetk) == 1);
  CHECK(next_mask({1, 2}, icetk) == -1);
  CHECK(make_prompt({1, S, 2}, icetk).step == 0);  // like [MASK]
}

TEST_CASE("an empty prompt is refused with a sentence") { CHECK_THROWS_WITH(make_prompt({}, icetk), Catch::Matchers::Contains("nothing to go on")); }
