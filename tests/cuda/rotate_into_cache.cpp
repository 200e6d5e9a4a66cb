// What a GPU, which is not told where sequences end, does with tokens that do not fit the cache: it writes nothing.
// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "ops/numbers.hpp"

using namespace ops;

TEST_CASE("tokens beyond a slot, before it, or of a slot that is not there, are not written") {
  constexpr std::int64_t groups = 2, parts = 3, dim = 8, slots = 2, capacity = 4;
  TestDevice device;
  const Numbers<float> tokens(4 * groups * parts * dim, 1), before((slots + 2) * groups * capacity * dim, 2);  // a slot before those of the cache, and one behind
  const auto same_as_before = [&](const std::vector<CachedSequence>& sequences) {
    const Tensor<float> x(device, tokens), keys(device, before), values(device, before);
    const auto call = upload(device, sequences);
    const auto cache = [&](const Tensor<float>& entries) { return View<float, 4>(entries.vector().data + groups * capacity * dim, slots, groups, capacity, dim); };
    rotate_into_cache(device, cache(keys), cache(values), x.view(4, groups, parts, dim), {}, {}, {}, call.view());
    return keys.typed() == before.typed && values.typed() == before.typed;
  };
  CHECK(same_as_before({{.row = 0, .count = 4, .first = capacity, .slot = 0}}));
  CHECK(same_as_before({{.row = 0, .count = 4, .first = -4, .slot = 1}}));
  CHECK(same_as_before({{.row = 0, .count = 4, .first = 0, .slot = slots}}));
  CHECK(same_as_before({{.row = 0, .count = 4, .first = 0, .slot = -1}}));
  CHECK(!same_as_before({{.row = 0, .count = 4, .first = 3, .slot = 1}}));  // whose first token fits
}

TEST_CASE("a cache of another shape is refused with the shapes") {
  TestDevice device;
  const Tensor<float> x(device, 2 * 3 * 8), cache(device, 2 * 4 * 8);
  const auto call = upload(device, std::vector<CachedSequence>{{.row = 0, .count = 2, .first = 0, .slot = 0}});
  CHECK_THROWS_WITH(rotate_into_cache(device, cache.view(1, 2, 4, 8), cache.view(1, 2, 4, 8), x.view(2, 1, 3, 8), {}, {}, {}, call.view()),
                    Catch::Matchers::Contains("qkv (2, 1, 3, 8), keys (1, 2, 4, 8)"));
}
