// Rounding::stepwise: each elementary step rounds, as the operations of GLM-130B's own code do one by one (spec 1.3 to 1.5); on every device.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "ops/attending.hpp"
#include "ops/numbers.hpp"
#include "worse.hpp"

using namespace ops;

namespace {

// The value that T stores.
template <class T>
float stored(double x) {
  return static_cast<float>(static_cast<T>(static_cast<float>(x)));
}

template <class T>
std::vector<float> floats(const std::vector<T>& values) {
  return converted<float>(values);
}

template <class T>
std::size_t unequal(const Tensor<T>& got, const std::vector<float>& want) {
  const auto values = floats(got.typed());
  REQUIRE(values.size() == want.size());
  std::size_t count = 0;
  for (std::size_t i = 0; i < want.size(); ++i) count += values[i] != want[i];
  return count;
}

// Attention's definition with every rounding written out; a hidden key has the score -10000.
template <class T>
std::vector<float> attended(const oracle::AttentionCase& c, const std::vector<T>& qkv, float layer_scale) {
  const auto at = [&](int part, int b, int t, int h, int d) { return static_cast<float>(qkv[c.at(part, b, t, h, d)]); };
  const float factor = 1 / static_cast<float>(layer_scale / c.scale);
  std::vector<float> out;
  std::vector<double> p(c.length);
  for (int b = 0; b < c.rows; ++b)
    for (int i = 0; i < c.length; ++i)
      for (int h = 0; h < c.heads; ++h) {
        double sum = 0;
        for (int j = 0; j < c.length; ++j) {
          double score = 0;
          for (int d = 0; d < c.dims; ++d) score += static_cast<double>(stored<T>(at(0, b, i, h, d) * factor)) * at(1, b, j, h, d);
          p[j] = oracle::sees(c.windows[b], i, j) ? static_cast<double>(stored<T>(score) * layer_scale) : -10000;
        }
        const double top = *std::max_element(p.begin(), p.end());
        for (double& x : p) sum += x = std::exp(x - top);
        for (int d = 0; d < c.dims; ++d) {
          double mean = 0;
          for (int j = 0; j < c.length; ++j) mean += static_cast<double>(stored<T>(p[j] / sum)) * at(2, b, j, h, d);
          out.push_back(stored<T>(mean));
        }
      }
  return out;
}

template <class T>
double share_equal(const std::vector<T>& got, const std::vector<float>& want) {
  REQUIRE(got.size() == want.size());
  double equal = 0;
  for (std::size_t i = 0; i < want.size(); ++i) equal += static_cast<float>(got[i]) == want[i];
  return equal / static_cast<double>(want.size());
}

}  // namespace

TEMPLATE_TEST_CASE("each product of a rotation is rounded before the sum", "", float16, bfloat16) {
  using T = TestType;
  constexpr std::int64_t heads = 2;
  for (const std::int64_t dim : {22, 128}) {
    const Numbers<T> x(rows * heads * 3 * dim, 1), turns(9 * dim, 2);
    const std::vector<float> tables = floats(turns.typed);
    const auto half = static_cast<std::size_t>(dim / 2);
    const std::vector<float> cos(tables.begin(), tables.begin() + 9 * dim / 2), sin(tables.begin() + 9 * dim / 2, tables.end());
    const std::vector<std::int32_t> positions{0, 8, 3, 3, 5};
    std::vector<float> want = floats(x.typed);
    for (std::size_t n = 0; n < static_cast<std::size_t>(rows); ++n)
      for (std::size_t part = 0; part < heads * 3; ++part)
        for (std::size_t j = 0; j < half && part % 3 < 2; ++j) {
          float &first = want[(n * heads * 3 + part) * 2 * half + j], &second = (&first)[half];
          const float c = cos[static_cast<std::size_t>(positions[n]) * half + j], s = sin[static_cast<std::size_t>(positions[n]) * half + j], a = first, b = second;
          first = stored<T>(stored<T>(a * c) - stored<T>(b * s)), second = stored<T>(stored<T>(b * c) + stored<T>(a * s));
        }
    on_each_device([&](TestDevice& device) {
      const Tensor<T> stepwise(device, x), once(device, x);
      const Tensor<float> cos_(device, cos), sin_(device, sin);
      const Tensor<std::int32_t> at(device, positions);
      rotate(device, stepwise.view(rows, heads, 3, dim), cos_.matrix(9), sin_.matrix(9), at.vector(), Rounding::stepwise);
      rotate(device, once.view(rows, heads, 3, dim), cos_.matrix(9), sin_.matrix(9), at.vector());
      CHECK(unequal(stepwise, want) == 0);
      CHECK(unequal(once, want) > 0);
    });
  }
}

TEMPLATE_TEST_CASE("alpha a is rounded before b joins, a bias joins what is rounded, gelu is rounded before its product", "", float16, bfloat16) {
  using T = TestType;
  constexpr double alpha = 11.832159566199232;  // which no 16-bit type holds
  for (const std::int64_t width : {columns, std::int64_t{72}}) {
    const Numbers<T> a(rows * width, 1), b(rows * width, 2), bias(width, 3), u(rows * 2 * width, 4), ones(width, 5, 0, 1);
    std::vector<float> sum, biased, gated;
    for (std::size_t i = 0; i < a.typed.size(); ++i) {
      const std::size_t n = i / static_cast<std::size_t>(width), column = i % static_cast<std::size_t>(width), linear = n * 2 * static_cast<std::size_t>(width) + column;
      sum.push_back(stored<T>(stored<T>(static_cast<float>(a.typed[i]) * static_cast<float>(alpha)) + static_cast<float>(b.typed[i])));
      biased.push_back(stored<T>(static_cast<float>(a.typed[i]) + static_cast<float>(bias.typed[column])));
      const double x = u.exact[linear + static_cast<std::size_t>(width)];
      gated.push_back(stored<T>(static_cast<float>(u.typed[linear]) * stored<T>(0.5 * x * (1 + std::erf(x / std::sqrt(2.0))))));
    }
    on_each_device([&](TestDevice& device) {
      const Tensor<T> a_(device, a), b_(device, b), bias_(device, bias), u_(device, u), ones_(device, ones), y(device, rows * width), total(device, rows * width), with_bias(device, a);
      add_scaled(device, y.matrix(rows), a_.matrix(rows), b_.matrix(rows), alpha, Rounding::stepwise);
      CHECK(unequal(y, sum) == 0);
      add_scaled(device, y.matrix(rows), a_.matrix(rows), b_.matrix(rows), alpha);
      CHECK(unequal(y, sum) > 0);
      normalize_sum(device, y.matrix(rows), total.matrix(rows), a_.matrix(rows), b_.matrix(rows), alpha, ones_.vector(), bias_.vector(), 1e-5, View<float, 1>{}, View<float, 1>{}, Rounding::stepwise);
      CHECK(unequal(total, sum) == 0);
      add_bias(device, with_bias.matrix(rows), bias_.vector());
      CHECK(unequal(with_bias, biased) == 0);
      activate(device, y.matrix(rows), u_.matrix(rows), Ffn::geglu, Rounding::stepwise);
      CHECK(unequal(y, gated) <= 2);  // a gelu that lies between two values
      activate(device, y.matrix(rows), u_.matrix(rows), Ffn::geglu);
      CHECK(unequal(y, gated) > 10);
    });
  }
}

TEMPLATE_TEST_CASE("scores and probabilities are rounded, and a query that sees nothing attends to all alike", "", float16, bfloat16) {
  using T = TestType;
  on_each_device([&](TestDevice& device) {
    for (const auto& c : cases()) {
      if (c.dims > 128) continue;
      const auto qkv = converted<T>(normals(c.qkv_size(), 1));
      const auto want = attended<T>(c, qkv, 3);
      const auto result = run(device, c, qkv, {}, 3, Rounding::stepwise);
      INFO("length " << c.length << ", dims " << c.dims);
      CHECK(largest_difference(result.out, want) < 4 * unit<T>);
      CHECK(share_equal(result.out, want) > 0.97);  // the others: a sum that lies between two values
      if (c.length > 60) CHECK(share_equal(run(device, c, qkv, {}, 3).out, want) < 0.9);
    }
  });
}

TEMPLATE_TEST_CASE("in fp32 the steps are attention's definition", "", float, double) {
  on_each_device([&](TestDevice& device) {
    for (const auto& c : cases()) {
      const auto qkv = converted<TestType>(normals(c.qkv_size(), 1));
      const auto expected = oracle::attend(c, converted<double>(qkv));
      const auto result = run(device, c, qkv, {}, 3, Rounding::stepwise);
      double out = 0, log_sum = 0;
      for (std::size_t i = 0; i < expected.log_sum.size(); ++i) {
        const int b = static_cast<int>(i) / c.length / c.heads, h = static_cast<int>(i) / c.length % c.heads, t = static_cast<int>(i) % c.length;
        if (!oracle::sees(c.windows[static_cast<std::size_t>(b)], t, t)) continue;
        log_sum = tests::worse(log_sum, std::abs(static_cast<double>(result.log_sum[i]) - expected.log_sum[i]));
        for (int d = 0; d < c.dims; ++d) {
          const std::size_t at = (static_cast<std::size_t>(b * c.length + t) * static_cast<std::size_t>(c.heads) + static_cast<std::size_t>(h)) * static_cast<std::size_t>(c.dims) + static_cast<std::size_t>(d);
          out = tests::worse(out, std::abs(static_cast<double>(result.out[at]) - expected.out[at]));
        }
      }
      INFO("length " << c.length << ", dims " << c.dims);
      CHECK(out < 40 * unit<TestType>);
      CHECK(log_sum < 40 * unit<TestType>);
    }
  });
}

TEST_CASE("a cache gives what whole rows give, to the bit of each score and probability") {
  constexpr int heads = 2, length = 75, prefix = 70;
  const int dims = GENERATE(30, 48, 144), sharers = GENERATE(1, 2);  // the last dims in several parts
  const int key_heads = heads / sharers, token_size = key_heads * (sharers + 2) * dims;
  const oracle::AttentionCase c{.rows = 1, .length = length, .heads = heads, .dims = dims, .windows = {{{0, length, prefix}}}, .scale = 0.125, .random = {}, .sharers = sharers};
  const auto qkv = converted<float16>(normals(c.qkv_size(), 1));
  const auto want = attended<float16>(c, qkv, 3);
  on_each_device([&](TestDevice& device) {
    Buffer<float16, TestDevice> keys(device, key_heads * 80 * dims, "test"), values(device, keys.size(), "test");
    const auto k = keys.view_at(0, 1, key_heads, 80, dims), v = values.view_at(0, 1, key_heads, 80, dims);
    std::vector<float16> got;
    for (int first = 0, count = 71; first < length; first += count, count = first == 71 ? 1 : 3) {
      const auto input = upload(device, std::vector<float16>(qkv.begin() + first * token_size, qkv.begin() + (first + count) * token_size));
      const auto call = upload(device, std::vector<CachedSequence>{{.row = 0, .count = count, .first = first, .prefix = prefix, .slot = 0}});
      Buffer<float16, TestDevice> out(device, count * heads * dims, "test");
      rotate_into_cache(device, k, v, input.view_at(0, count, key_heads, sharers + 2, dims), {}, {}, {}, call.view());
      attend_cached(device, out.view_at(0, count, heads, dims), input.view_at(0, count, key_heads, sharers + 2, dims), k, v, call.view(), {.scale = 0.125, .layer_scale = 3, .rounding = Rounding::stepwise});
      const auto part = download(device, out);
      got.insert(got.end(), part.begin(), part.end());
    }
    CHECK(largest_difference(got, want) < 2 * unit<float16>);
    CHECK(share_equal(got, want) > 0.97);
    const auto few = 71 * heads * dims;  // behind the first call, tokens come few at a time
    CHECK(share_equal(std::vector<float16>(got.begin() + few, got.end()), std::vector<float>(want.begin() + few, want.end())) > 0.97);
  });
}

TEST_CASE("what is stepwise drops nothing") {
  on_each_device([&](TestDevice& device) {
    auto c = cases()[1];
    c.dropout = 0.1;
    CHECK_THROWS_WITH(run(device, c, converted<float>(normals(c.qkv_size(), 1)), {}, 3, Rounding::stepwise), Catch::Matchers::Contains("give a dropout of 0"));
  });
}
