// rotate_into_cache against rotate, and its cache against what it rotated, to the bit: every element type, shared keys, tokens of no sequence, on every device.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <vector>

#include "ops/numbers.hpp"

using namespace ops;

TEMPLATE_TEST_CASE("new tokens are rotated, and their keys and values are in the cache", "", float, double, bfloat16, float16) {
  using T = TestType;
  using A = accumulate_t<T>;
  constexpr std::int64_t tokens = 6, groups = 2, slots = 3, capacity = 7, context = 9;
  // one whole prompt, one token at the end of a slot, and token 4, which is nobody's
  const std::vector<CachedSequence> sequences{{.row = 1, .count = 3, .first = 2, .slot = 2}, {.row = 0, .count = 1, .first = 6, .slot = 0}, {.row = 5, .count = 1, .first = 0, .slot = 1}};
  const std::vector<std::int32_t> positions{8, 0, 3, 3, 5, 1};
  for (const std::int64_t dim : {22, 128, 24})
    for (const Rounding rounding : {Rounding::once, Rounding::stepwise})
      for (const bool turned : {true, false}) {
        const std::int64_t parts = dim == 24 ? 5 : 3;
        INFO("dim " << dim << ", turned " << turned << ", rounded " << (rounding == Rounding::once ? "once" : "stepwise"));
        const Numbers<T> original(tokens * groups * parts * dim, 1), before(slots * groups * capacity * dim, 2);
        std::vector<A> cos, sin;
        for (int p = 0; p < context; ++p)
          for (int i = 0; i < dim / 2; ++i) cos.push_back(static_cast<A>(std::cos(p * 0.1 * i))), sin.push_back(static_cast<A>(std::sin(p * 0.1 * i)));
        on_each_device([&](TestDevice& device) {
          const Tensor<T> x(device, original), want(device, original), keys(device, before), values(device, before);
          const Tensor<A> cos_(device, cos), sin_(device, sin);
          const Tensor<std::int32_t> at(device, positions);
          const auto call = upload(device, sequences);
          const auto cache = [&](const Tensor<T>& entries) { return entries.view(slots, groups, capacity, dim); };
          if (turned) rotate(device, want.view(tokens, groups, parts, dim), cos_.matrix(context), sin_.matrix(context), at.vector(), rounding);
          rotate_into_cache(device, cache(keys), cache(values), x.view(tokens, groups, parts, dim), turned ? cos_.matrix(context) : View<A, 2>{}, turned ? sin_.matrix(context) : View<A, 2>{},
                            at.vector(), call.view(), rounding);
          const std::vector<T> rotated = x.typed(), by_rotate = want.typed();
          CHECK(difference(rotated, {by_rotate.begin(), by_rotate.end()}, 2) == "");
          std::vector<T> want_keys = before.typed, want_values = before.typed;
          for (const CachedSequence& s : sequences)
            for (std::int64_t i = 0; i < s.count; ++i)
              for (std::int64_t g = 0; g < groups; ++g)
                for (std::int64_t d = 0; d < dim; ++d) {
                  const auto to = static_cast<std::size_t>(((s.slot * groups + g) * capacity + s.first + i) * dim + d), from = static_cast<std::size_t>((((s.row + i) * groups + g) * parts + parts - 2) * dim + d);
                  want_keys[to] = rotated[from], want_values[to] = rotated[from + static_cast<std::size_t>(dim)];
                }
          CHECK(keys.typed() == want_keys);
          CHECK(values.typed() == want_values);
        });
      }
}
