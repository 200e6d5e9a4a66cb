// attend, attend_backward and attend_cached against the definition of attention, on every device.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "ops/attending.hpp"

using namespace ops;

TEMPLATE_TEST_CASE("attend computes attention's definition, and the log-sum-exp of each query", "", double, float, bfloat16, float16) {
  for (const auto& c : cases()) {
    const auto qkv = converted<TestType>(normals(c.qkv_size(), 1));
    const auto expected = oracle::attend(c, converted<double>(qkv));
    INFO("length " << c.length << ", dims " << c.dims);
    on_each_attention<TestType>([&](TestDevice& device) {
      const auto result = run(device, c, qkv);
      CHECK(largest_difference(result.out, expected.out) < (c.dims > 128 ? 40 : 20) * unit<TestType>);
      CHECK(largest_difference(result.log_sum, expected.log_sum) < (c.dims > 128 ? 40 : 20) * unit<TestType>);
    });
  }
}

TEMPLATE_TEST_CASE("a token outside every window gets a zero output, a zero log-sum-exp and a zero gradient", "", float, bfloat16) {
  on_each_attention<TestType>([&](TestDevice& device) {
    const auto c = cases()[5];  // tokens 130 .. 139 of row 0
    const auto result = run(device, c, converted<TestType>(normals(c.qkv_size(), 1)), converted<TestType>(normals(c.out_size(), 2)));
    for (int t = 130; t < 140; ++t) {
      CHECK(result.log_sum[t] == 0);
      for (int d = 0; d < c.dims; ++d) CHECK(static_cast<float>(result.out[t * c.dims + d]) == 0);
      for (int d = 0; d < 3 * c.dims; ++d) CHECK(static_cast<float>(result.dqkv[t * 3 * c.dims + d]) == 0);
    }
  });
}

TEST_CASE("attend_backward agrees with central differences, with dropout and without") {
  for (auto c : cases())
    for (const double dropout : {0.0, 0.3}) {
      if (c.dims > 80) continue;  // the gradients of narrower types reach those
      c.dropout = dropout;
      c.random = {11, 5};
      const auto qkv = normals(c.qkv_size(), 1), dout = normals(c.out_size(), 2);
      const auto loss = [&](std::size_t i, double change) {
        auto changed = qkv;
        changed[i] += change;
        const auto out = oracle::attend(c, changed).out;
        double sum = 0;
        for (std::size_t j = 0; j < out.size(); ++j) sum += out[j] * dout[j];
        return sum;
      };
      std::vector<std::pair<std::size_t, double>> slopes;
      const std::size_t samples = c.length < 10 ? qkv.size() : 6;
      for (std::size_t sample = 0; sample < samples; ++sample) {
        const std::size_t i = c.length < 10 ? sample : Random{3, 3}.below(sample, qkv.size());
        slopes.emplace_back(i, (loss(i, 1e-5) - loss(i, -1e-5)) / 2e-5);
      }
      INFO("length " << c.length << ", dims " << c.dims << ", dropout " << dropout);
      on_each_device([&](TestDevice& device) {
        const auto gradient = run(device, c, qkv, dout).dqkv;
        for (const auto& [i, slope] : slopes) REQUIRE(gradient[i] == Approx(slope).epsilon(1e-6).margin(1e-7));
      });
    }
}

TEMPLATE_TEST_CASE("the gradient of narrower types is that of double, up to rounding", "", float, bfloat16, float16) {
  const auto all = cases();
  std::vector<std::vector<double>> expected;  // of each case, from the first device
  on_each_attention<TestType>([&](TestDevice& device) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      auto c = all[i];
      c.dropout = 0.1;
      const auto qkv = converted<TestType>(normals(c.qkv_size(), 1)), dout = converted<TestType>(normals(c.out_size(), 2));
      if (i == expected.size()) expected.push_back(run(device, c, converted<double>(qkv), converted<double>(dout)).dqkv);
      double top = 1;
      for (const double g : expected[i]) top = std::max(top, std::abs(g));
      INFO("length " << c.length << ", dims " << c.dims);
      CHECK(largest_difference(run(device, c, qkv, dout).dqkv, expected[i]) < (c.dims > 128 ? 40 : 20) * top * unit<TestType>);
    }
  });
}

TEMPLATE_TEST_CASE("attend drops the probabilities that their places in the matrix say", "", double, bfloat16) {
  for (auto c : cases()) {
    c.dropout = 0.25;
    c.random = {1130, stream_of("layer 3")};
    const auto qkv = converted<TestType>(normals(c.qkv_size(), 1));
    const auto expected = oracle::attend(c, converted<double>(qkv));
    const double bound = std::is_same_v<TestType, double> ? 1e-13 : (c.dims > 128 ? 40 : 20) * unit<TestType>;
    INFO("length " << c.length << ", dims " << c.dims);
    on_each_attention<TestType>([&](TestDevice& device) {
      const auto result = run(device, c, qkv);
      CHECK(largest_difference(result.out, expected.out) < bound);
      CHECK(largest_difference(result.log_sum, expected.log_sum) < bound);  // dropout comes after the sum
    });
  }
}

TEST_CASE("options that know the dims of heads change no bit, and a GPU refuses heads of other dims with them") {
  auto c = cases()[4];  // 200 tokens, 80 dims
  const auto qkv = converted<bfloat16>(normals(c.qkv_size(), 1)), dout = converted<bfloat16>(normals(c.out_size(), 2));
  on_each_attention<bfloat16>([&](TestDevice& device) {
    const auto told = run(device, c, qkv, dout), known = run<AttentionOptionsOf<80>>(device, c, qkv, dout);
    CHECK(known.out == told.out);
    CHECK(known.log_sum == told.log_sum);
    CHECK(known.dqkv == told.dqkv);
  });
#if defined(GOLEM_TEST_CUDA) || defined(GOLEM_TEST_GPU)
  c.dims = 64;
  TestDevice device;
  CHECK_THROWS_WITH(run<AttentionOptionsOf<80>>(device, c, qkv), Catch::Contains("heads of 64 dims, and options for heads of 80"));
#endif
}

TEST_CASE("layer_scale keeps large fp16 queries small before the product, and changes nothing else") {
  on_each_device([&](TestDevice& device) {
    const auto c = cases()[4];
    const auto qkv = normals(c.qkv_size(), 1), dout = normals(c.out_size(), 2);
    const auto expected = run(device, c, qkv, dout), scaled = run(device, c, qkv, dout, 70);
    CHECK(largest_difference(scaled.out, expected.out) < 1e-13);
    CHECK(largest_difference(scaled.log_sum, expected.log_sum) < 1e-13);
    CHECK(largest_difference(scaled.dqkv, expected.dqkv) < 1e-12);

    const float16 q(1.0f / 3), k(1.0f);  // one dim in use: the score is k * float16(q * scale / layer_scale) * layer_scale
    const std::vector<float16> pair{q, float16(0.0f), k, float16(0.0f), float16(0.0f), float16(0.0f)};
    const oracle::AttentionCase one{.windows = {{{0, 1, 0}}}, .scale = 0.7f};
    const float rounded = static_cast<float>(float16(static_cast<float>(q) * (0.7f / 7)));
    CHECK(run(device, one, pair, {}, 7).log_sum[0] == rounded * 7);
  });
}

TEMPLATE_TEST_CASE("attend_cached, fed in any portions, gives what attend gives for the whole sequence", "", double, float, bfloat16, float16) {
  using T = TestType;
  constexpr int heads = 2, capacity = 100, slots = 3;
  struct Sequence {
    int prefix, slot;
    std::vector<int> portions;
  };
  const std::vector<Sequence> sequences{{20, 2, {21, 1, 1}}, {0, 0, {3, 70, 1}}, {70, 1, {81, 4, 5}}};
  const AttentionOptions options{.scale = 0.125f, .layer_scale = 3};
  for (int i = 0; i < 4; ++i) {
    const int dims = i % 2 ? 96 : 30, sharers = 1 + i / 2;
    const int key_heads = heads / sharers, token_size = key_heads * (sharers + 2) * dims;
    std::vector<std::vector<double>> qkv, expected;
    for (const Sequence& s : sequences) {
      const int length = s.portions[0] + s.portions[1] + s.portions[2];
      const oracle::AttentionCase c{
          .rows = 1, .length = length, .heads = heads, .dims = dims, .windows = {{{0, length, s.prefix}}}, .scale = 0.125, .random = {}, .sharers = sharers};
      qkv.push_back(converted<double>(converted<T>(normals(c.qkv_size(), 10 + s.slot))));
      expected.push_back(oracle::attend(c, qkv.back()).out);
    }
    on_each_device([&](TestDevice& device) {
      Buffer<T, TestDevice> keys(device, slots * key_heads * capacity * dims, "test"), values(device, keys.size(), "test");
      const auto k = keys.view_at(0, slots, key_heads, capacity, dims), v = values.view_at(0, slots, key_heads, capacity, dims);
      std::vector<int> done(sequences.size());
      for (std::size_t portion = 0; portion < 3; ++portion) {
        std::vector<CachedSequence> call;
        std::vector<double> x, wanted;
        for (std::size_t s = 0; s < sequences.size(); ++s) {
          const int count = sequences[s].portions[portion], first = done[s], row = static_cast<int>(x.size()) / token_size;
          call.push_back({.row = row, .count = count, .first = first, .prefix = sequences[s].prefix, .slot = sequences[s].slot});
          x.insert(x.end(), qkv[s].begin() + first * token_size, qkv[s].begin() + (first + count) * token_size);
          wanted.insert(wanted.end(), expected[s].begin() + first * heads * dims, expected[s].begin() + (first + count) * heads * dims);
          done[s] += count;
        }
        const auto tokens = static_cast<std::int64_t>(x.size()) / token_size;
        const auto input = upload(device, converted<T>(x));
        const auto calls = upload(device, call);
        Buffer<T, TestDevice> out(device, tokens * heads * dims, "test");
        const auto x4 = input.view_at(0, tokens, key_heads, sharers + 2, dims);
        rotate_into_cache(device, k, v, x4, {}, {}, {}, calls.view());
        attend_cached(device, out.view_at(0, tokens, heads, dims), x4, k, v, calls.view(), options);
        INFO("dims " << dims << ", " << sharers << " heads to a key, portion " << portion);
        CHECK(largest_difference(download(device, out), wanted) < 40 * unit<T>);
      }
    });
  }
}

TEMPLATE_TEST_CASE("attend_cached sees the right keys of a cache, wherever it is cut, and among few tokens each sequence gets the same bits in any company", "", double, float, bfloat16, float16) {
  using T = TestType;
  constexpr int heads = 2, capacity = 300, slots = 4, tokens = 8, unowned = 3;
  // one token alone, a full slot, an end within a part, and a prefix beyond several tokens; not in the order of their rows
  const std::vector<CachedSequence> sequences{
      {.row = 7, .count = 1, .first = 0, .slot = 3}, {.row = 0, .count = 1, .first = 299, .prefix = 7, .slot = 0}, {.row = 4, .count = 3, .first = 40, .prefix = 200, .slot = 1}, {.row = 1, .count = 2, .first = 130, .slot = 2}};
  const AttentionOptions options{.scale = 0.125f, .layer_scale = 3};
  for (const int dims : {6, 48, 128, 160}) {
    const auto qkv = converted<T>(normals(std::size_t{tokens} * heads * 3 * dims, 1));
    auto keys = converted<T>(normals(std::size_t{slots} * heads * capacity * dims, 2)), values = converted<T>(normals(keys.size(), 3));
    const auto place = [&](int slot, int head, int key) { return static_cast<std::size_t>((slot * heads + head) * capacity + key) * static_cast<std::size_t>(dims); };
    std::vector<double> expected(std::size_t{tokens} * heads * dims);
    for (const CachedSequence& s : sequences) {
      for (int i = 0; i < s.count; ++i)
        for (int head = 0; head < heads; ++head) {
          const auto item = static_cast<std::size_t>((s.row + i) * heads + head);
          const int seen = std::min(std::max(s.first + i + 1, s.prefix), s.first + s.count);
          std::vector<double> p;
          double sum = 0;
          for (int key = 0; key < seen; ++key) {
            double score = 0;
            for (int d = 0; d < dims; ++d) score += 0.125 * static_cast<double>(qkv[item * 3 * dims + d]) * static_cast<double>(keys[place(s.slot, head, key) + d]);
            p.push_back(std::exp(score));
            sum += p.back();
          }
          for (int key = 0; key < seen; ++key)
            for (int d = 0; d < dims; ++d) expected[item * dims + d] += p[key] / sum * static_cast<double>(values[place(s.slot, head, key) + d]);
        }
      for (int head = 0; head < heads; ++head)  // nobody wrote there yet
        for (std::size_t i = place(s.slot, head, s.first + s.count); i < place(s.slot, head, capacity); ++i) keys[i] = values[i] = T(std::nanf(""));
    }
    for (int d = 0; d < heads * dims; ++d) expected[unowned * heads * dims + d] = 99;
    std::vector<T> first;  // from the first device
    on_each_device([&](TestDevice& device) {
      const auto q = upload(device, qkv), k = upload(device, keys), v = upload(device, values);
      const auto attended = [&](const std::vector<CachedSequence>& call) {
        const auto list = upload(device, call);
        const auto out = upload(device, std::vector<T>(expected.size(), T(99.0f)));
        attend_cached(device, out.view_at(0, tokens, heads, dims), q.view_at(0, tokens, heads, 3, dims), k.view_at(0, slots, heads, capacity, dims), v.view_at(0, slots, heads, capacity, dims),
                      list.view(), options);
        return download(device, out);
      };
      const auto got = attended(sequences);
      INFO("dims " << dims);
      CHECK(largest_difference(got, expected) < 40 * unit<T>);
      if (TestDevice::host_memory) return;
      if (first.empty()) first = got;
      CHECK(got == first);  // in whatever order blocks run
      const auto pair = attended({sequences[0], sequences[3]});  // 8 tokens of 2: few as well
      for (const CachedSequence& s : {sequences[0], sequences[3]})
        CHECK(std::equal(got.begin() + s.row * heads * dims, got.begin() + (s.row + s.count) * heads * dims, pair.begin() + s.row * heads * dims));
    });
  }
}

TEST_CASE("a prompt beside sequences of a token each gets what it gets alone, and writes no other rows") {
  constexpr int heads = 1, dims = 32, capacity = 150, slots = 3, tokens = 75;
  const std::vector<CachedSequence> sequences{{.row = 1, .count = 1, .first = 9, .slot = 2}, {.row = 2, .count = 70, .first = 60, .prefix = 90, .slot = 0}, {.row = 73, .count = 1, .first = 149, .slot = 1}};
  const auto qkv = converted<float16>(normals(std::size_t{tokens} * heads * 3 * dims, 1));
  const auto keys = converted<float16>(normals(std::size_t{slots} * heads * capacity * dims, 2)), values = converted<float16>(normals(keys.size(), 3));
  on_each_device([&](TestDevice& device) {
    const auto q = upload(device, qkv), k = upload(device, keys), v = upload(device, values);
    const auto attended = [&](const std::vector<CachedSequence>& call, const auto& options) {
      const auto list = upload(device, call);
      const auto out = upload(device, std::vector<float16>(std::size_t{tokens} * heads * dims, float16(99.0f)));
      attend_cached(device, out.view_at(0, tokens, heads, dims), q.view_at(0, tokens, heads, 3, dims), k.view_at(0, slots, heads, capacity, dims), v.view_at(0, slots, heads, capacity, dims),
                    list.view(), options);
      return download(device, out);
    };
    const AttentionOptions options{.scale = 0.2};
    const auto all = attended(sequences, options);
    CHECK(attended(sequences, AttentionOptionsOf<dims>{options}) == all);
    std::vector<bool> owned(tokens);
    for (const CachedSequence& s : sequences) {
      const auto alone = attended({s}, options);
      for (int n = 0; n < tokens; ++n) {
        const bool own = n >= s.row && n < s.row + s.count;
        if (own) owned[static_cast<std::size_t>(n)] = true;
        for (int d = 0; d < dims; ++d) {
          const auto i = static_cast<std::size_t>(n * dims + d);
          if (!own) REQUIRE(static_cast<float>(alone[i]) == 99);
          else REQUIRE(std::abs(static_cast<float>(alone[i]) - static_cast<float>(all[i])) < 4 * unit<float16>);
        }
      }
    }
    for (int n = 0; n < tokens; ++n)
      for (int d = 0; d < dims; ++d) REQUIRE((static_cast<float>(all[static_cast<std::size_t>(n * dims + d)]) == 99) == !owned[static_cast<std::size_t>(n)]);
  });
}

TEST_CASE("attention says what does not fit") {
  using Catch::Matchers::Contains;
  on_each_device([&](TestDevice& device) {
    std::vector<float> memory(4096);
    const View<const float, 4> qkv(memory.data(), 8, 2, 3, 4);
    const std::int32_t first[]{0, 0, 0, 0};
    const WindowList windows{{}, {first, 4}};
    CHECK_THROWS_WITH(attend(device, View<float, 3>(memory.data(), 8, 2, 4), {}, qkv, 3, windows, {}), Contains("8 tokens in 3 rows"));
    CHECK_THROWS_WITH(attend(device, View<float, 3>(memory.data(), 8, 2, 4), {}, qkv, 4, windows, {}), Contains("windows for 3"));
    CHECK_THROWS_WITH(attend(device, View<float, 3>(memory.data(), 8, 2, 2), {}, qkv, 2, {{}, {first, 3}}, {}), Contains("(8, 2, 2)"));
    CHECK_THROWS_WITH(attend(device, View<float, 3>(memory.data(), 8, 2, 4), {}, View<const float, 4>(memory.data(), 8, 2, 2, 4), 2, {{}, {first, 3}}, {}), Contains("(8, 2, 2, 4)") && Contains("(N, G, S + 2, D)"));
  });
}

#if defined(GOLEM_TEST_CUDA)
using Catch::Matchers::Contains;

TEST_CASE("attention runs by wgmma on a GPU that has it; a program that asks for it by name and was not built for it is told so") {
  const simt::MachineRestored restored;
  simt::machine().built_for_sm_90a = false;  // so that the path taken shows
  const auto attend_on = [](int major, cuda::AttentionPath path, int dims) {
    simt::machine().major = major;
    TestDevice device({.attention = path});
    const oracle::AttentionCase c{.length = 3, .dims = dims, .windows = {{{0, 3, 1}}}};
    run(device, c, converted<bfloat16>(normals(c.qkv_size(), 1)));
    return std::string(device.last_kernel());
  };
  for (const int dims : {16, 64, 128})
    CHECK_THROWS_WITH(attend_on(9, cuda::AttentionPath::wgmma, dims), Contains("kernel attend_sm90 was asked to run by wgmma on the host") && Contains("not built for sm_90a") &&
                                                                          Contains("arch=compute_90a,code=sm_90a") && Contains("AttentionPath::best"));
  const auto by_mma = Contains("kernel attend on ");
  CHECK_THAT(attend_on(9, cuda::AttentionPath::best, 64), by_mma);
  CHECK_THAT(attend_on(9, cuda::AttentionPath::mma, 64), by_mma);
  CHECK_THAT(attend_on(8, cuda::AttentionPath::wgmma, 64), by_mma);
  CHECK_THAT(attend_on(10, cuda::AttentionPath::wgmma, 64), by_mma);
  CHECK_THAT(attend_on(9, cuda::AttentionPath::wgmma, 144), by_mma);
  CHECK_THAT(attend_on(9, cuda::AttentionPath::wgmma, 6), Contains("attend_plain"));
  simt::machine().built_for_sm_90a = true;
  for (const auto path : {cuda::AttentionPath::best, cuda::AttentionPath::wgmma}) CHECK_THAT(attend_on(9, path, 64), Contains("kernel attend_sm90 on "));
  CHECK_THAT(attend_on(9, cuda::AttentionPath::mma, 64), by_mma);
}

TEST_CASE("attention of fp32 and fp64 runs by tiles where a block has room for them") {
  const simt::MachineRestored restored;
  const auto attend_on = [](auto number, int major, int dims) {
    using T = decltype(number);
    simt::machine().major = major, simt::machine().minor = major == 7 ? 5 : 0;
    const oracle::AttentionCase c{.length = 70, .heads = 2, .dims = dims, .windows = {{{0, 70, 40}}}, .scale = 0.1};
    TestDevice device;
    const Result<T> result = run(device, c, converted<T>(normals(c.qkv_size(), 1)), converted<T>(normals(c.qkv_size() / 3, 2)));
    return std::pair(result, std::string(device.last_kernel()));
  };
  CHECK_THAT(attend_on(1.0f, 8, 64).second, Contains("attend_tiled_dkey"));
  CHECK_THAT(attend_on(1.0f, 8, 144).second, Contains("attend_plain_dkey"));
  CHECK_THAT(attend_on(1.0f, 7, 64).second, Contains("attend_tiled_dkey"));
  const auto [tiled, by_tiles] = attend_on(1.0, 8, 128);
  const auto [plain, by_warps] = attend_on(1.0, 7, 128);
  CHECK_THAT(by_tiles, Contains("attend_tiled_dkey"));
  CHECK_THAT(by_warps, Contains("attend_plain_dkey"));
  CHECK(largest_difference(tiled.out, plain.out) < 1e-13);
  CHECK(largest_difference(tiled.log_sum, plain.log_sum) < 1e-13);
  CHECK(largest_difference(tiled.dqkv, plain.dqkv) < 1e-12);
}

TEST_CASE("attention is refused where the program was compiled for an older GPU") {
  constexpr std::int64_t tokens = 40, dims = 64;
  const oracle::AttentionCase c{.length = tokens, .dims = dims, .windows = {{{0, tokens, 1}}}};
  const auto qkv = converted<bfloat16>(normals(c.qkv_size(), 1));
  check_compiled_for_7_5([&](TestDevice& device) { run(device, c, qkv); });
  const auto with = [&](const auto& body) {
    check_compiled_for_7_5([&](TestDevice& device) {
      const auto x = upload(device, qkv), dy = upload(device, qkv);
      const Buffer<bfloat16, TestDevice> y(device, tokens * dims, "test"), dx(device, 3 * tokens * dims, "test");
      const Buffer<float, TestDevice> log_sum(device, tokens, "test");
      body(device, x.view_at(0, tokens, 1, 3, dims), y.view_at(0, tokens, 1, dims), log_sum.view_at(0, 1, 1, tokens), dy.view_at(0, tokens, 1, dims), dx.view_at(0, tokens, 1, 3, dims));
    });
  };
  with([&](TestDevice& device, auto x, auto y, auto log_sum, auto dy, auto dx) { attend_backward(device, dx, dy, y, log_sum, x, 1, Windows<TestDevice>(device, c).list(), options_of(c)); });
  with([&](TestDevice& device, auto x, auto y, auto, auto cache, auto) {
    const auto sequence = upload(device, std::vector<CachedSequence>{{.row = 0, .count = tokens}});
    const auto keys = cache.data;
    attend_cached(device, y, x, View<bfloat16, 4>(keys, 1, 1, tokens, dims), View<bfloat16, 4>(keys, 1, 1, tokens, dims), sequence.view(), options_of(c));
  });
}
#endif
