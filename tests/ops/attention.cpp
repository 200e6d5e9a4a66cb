// attend, attend_backward, append_cache and attend_cached against the definition of attention, on every instruction set.
// SPDX-License-Identifier: Apache-2.0
#include "golem/cpu/attention.hpp"

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "catch.hpp"
#include "oracle/attention.hpp"

using namespace golem;

namespace {

template <class T, class D>
Buffer<T, D> upload(D& device, const std::vector<T>& values) {
  Buffer<T, D> buffer(device, static_cast<std::int64_t>(values.size()), "test");
  device.copy_in(buffer.data(), values.data(), buffer.bytes());
  return buffer;
}

template <class T, class D>
std::vector<T> download(D& device, const Buffer<T, D>& buffer) {
  device.synchronize();
  std::vector<T> values(static_cast<std::size_t>(buffer.size()));
  device.copy_out(values.data(), buffer.data(), buffer.bytes());
  return values;
}

template <class To, class From>
std::vector<To> converted(const std::vector<From>& from) {
  std::vector<To> to(from.size());
  for (std::size_t i = 0; i < from.size(); ++i) to[i] = static_cast<To>(from[i]);
  return to;
}

std::vector<double> normals(std::size_t count, std::uint64_t stream) {
  std::vector<double> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = Random{7, stream}.normal(i);
  return values;
}

std::size_t qkv_size(const oracle::AttentionCase& c) { return std::size_t(c.rows) * c.length * c.heads * 3 * c.dims; }

/// The windows of a case, on a device.
template <class D>
struct Windows {
  Buffer<Window, D> all;
  Buffer<std::int32_t, D> first;

  Windows(D& device, const oracle::AttentionCase& c) {
    std::vector<Window> windows;
    std::vector<std::int32_t> firsts{0};
    for (const auto& row : c.windows) {
      windows.insert(windows.end(), row.begin(), row.end());
      firsts.push_back(static_cast<std::int32_t>(windows.size()));
    }
    all = upload(device, windows);
    first = upload(device, firsts);
  }
  WindowList list() const { return {all.view(), first.view()}; }
};

AttentionOptions options_of(const oracle::AttentionCase& c, float layer_scale = 1) {
  return {.scale = static_cast<float>(c.scale), .layer_scale = layer_scale, .dropout = c.dropout, .random = c.random};
}

template <class T>
struct Result {
  std::vector<T> out;
  std::vector<accumulate_t<T>> log_sum;
  std::vector<T> dqkv;  // empty unless a gradient was given
};

template <class T, class D>
Result<T> run(D& device, const oracle::AttentionCase& c, const std::vector<T>& qkv, const std::vector<T>& dout = {}, float layer_scale = 1) {
  using A = accumulate_t<T>;
  const std::int64_t tokens = c.rows * c.length, heads = c.heads, dims = c.dims;
  const auto x = upload(device, qkv);
  Buffer<T, D> y(device, tokens * heads * dims, "test");
  Buffer<A, D> log_sum(device, tokens * heads, "test");
  const Windows<D> windows(device, c);
  const auto x4 = x.view_at(0, tokens, heads, 3, dims);
  const auto y3 = y.view_at(0, tokens, heads, dims);
  const auto l3 = log_sum.view_at(0, c.rows, heads, c.length);
  attend(device, y3, l3, x4, c.rows, windows.list(), options_of(c, layer_scale));
  Result<T> result{download(device, y), download(device, log_sum), {}};
  if (dout.empty()) return result;
  const auto dy = upload(device, dout);
  Buffer<T, D> dx = upload(device, std::vector<T>(qkv.size(), T(99.0f)));
  attend_backward(device, dx.view_at(0, tokens, heads, 3, dims), dy.view_at(0, tokens, heads, dims), y3, l3, x4, c.rows, windows.list(),
                  options_of(c, layer_scale));
  result.dqkv = download(device, dx);
  return result;
}

template <class T, class U>
double largest_difference(const std::vector<T>& a, const std::vector<U>& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(difference <= largest)) largest = difference;  // NaN stays
  }
  return largest;
}

/// Odd sizes first; windows that end, start and leave gaps anywhere in a tile.
std::vector<oracle::AttentionCase> cases() {
  const auto make = [](int rows, int length, int heads, int dims, std::vector<std::vector<Window>> windows) {
    return oracle::AttentionCase{.rows = rows,
                                 .length = length,
                                 .heads = heads,
                                 .dims = dims,
                                 .windows = std::move(windows),
                                 .scale = static_cast<float>(1 / std::sqrt(dims))};
  };
  return {make(1, 1, 1, 2, {{{0, 1, 0}}}),        make(2, 7, 3, 6, {{{0, 7, 3}}, {{1, 3, 1}, {3, 6, 0}}}),
          make(2, 67, 1, 30, {{{0, 67, 0}}, {}}), make(1, 64, 2, 64, {{{0, 64, 10}}}),
          make(1, 200, 2, 80, {{{0, 200, 131}}}), make(2, 193, 1, 32, {{{0, 50, 7}, {50, 130, 80}, {140, 193, 0}}, {{0, 193, 193}}})};
}

std::vector<cpu::Isa> isas() {
  std::vector<cpu::Isa> all;
  for (const cpu::Isa isa : {cpu::Isa::plain, cpu::Isa::avx2, cpu::Isa::avx512})
    if (isa <= cpu::detect_isa()) all.push_back(isa);
  return all;
}

template <class T>
constexpr double unit = std::is_same_v<T, double>    ? 1e-15
                        : std::is_same_v<T, float>   ? 6e-8
                        : std::is_same_v<T, float16> ? 4.9e-4
                                                     : 3.9e-3;

}  // namespace

TEMPLATE_TEST_CASE("attend computes attention's definition, and the log-sum-exp of each query", "", double, float, bfloat16, float16) {
  for (const cpu::Isa isa : isas()) {
    cpu::Device device({.threads = 2, .isa = isa});
    for (const auto& c : cases()) {
      const auto qkv = converted<TestType>(normals(qkv_size(c), 1));
      const auto expected = oracle::attend(c, converted<double>(qkv));
      const auto result = run(device, c, qkv);
      INFO(cpu::name_of(isa) << ", length " << c.length << ", dims " << c.dims);
      CHECK(largest_difference(result.out, expected.out) < 20 * unit<TestType>);
      CHECK(largest_difference(result.log_sum, expected.log_sum) < 20 * unit<TestType>);
    }
  }
}

TEMPLATE_TEST_CASE("a token outside every window gets a zero output, a zero log-sum-exp and a zero gradient", "", float, bfloat16) {
  cpu::Device device({.threads = 2});
  const auto c = cases().back();  // tokens 130 .. 139 of row 0
  const auto result = run(device, c, converted<TestType>(normals(qkv_size(c), 1)), converted<TestType>(normals(qkv_size(c) / 3, 2)));
  for (int t = 130; t < 140; ++t) {
    CHECK(result.log_sum[t] == 0);
    for (int d = 0; d < c.dims; ++d) CHECK(static_cast<float>(result.out[t * c.dims + d]) == 0);
    for (int d = 0; d < 3 * c.dims; ++d) CHECK(static_cast<float>(result.dqkv[t * 3 * c.dims + d]) == 0);
  }
}

TEST_CASE("attend_backward agrees with central differences, with dropout and without") {
  for (const cpu::Isa isa : isas()) {
    cpu::Device device({.threads = 2, .isa = isa});
    for (auto c : cases())
      for (const double dropout : {0.0, 0.3}) {
        c.dropout = dropout;
        c.random = {11, 5};
        auto qkv = normals(qkv_size(c), 1);
        const auto dout = normals(qkv.size() / 3, 2);
        const auto gradient = run(device, c, qkv, dout).dqkv;
        const auto loss = [&] {
          const auto out = oracle::attend(c, qkv).out;
          double sum = 0;
          for (std::size_t i = 0; i < out.size(); ++i) sum += out[i] * dout[i];
          return sum;
        };
        INFO(cpu::name_of(isa) << ", length " << c.length << ", dims " << c.dims << ", dropout " << dropout);
        const std::size_t samples = c.length < 10 ? qkv.size() : 6;
        for (std::size_t s = 0; s < samples; ++s) {
          const std::size_t i = c.length < 10 ? s : Random{3, 3}.below(s, qkv.size());
          const double x = qkv[i], step = 1e-5;
          qkv[i] = x + step;
          const double above = loss();
          qkv[i] = x - step;
          const double below = loss();
          qkv[i] = x;
          REQUIRE(gradient[i] == Approx((above - below) / (2 * step)).epsilon(1e-6).margin(1e-7));
        }
      }
  }
}

TEMPLATE_TEST_CASE("the gradient of narrower types is that of double, up to rounding", "", float, bfloat16, float16) {
  for (const cpu::Isa isa : isas()) {
    cpu::Device device({.threads = 2, .isa = isa});
    for (auto c : cases()) {
      c.dropout = 0.1;
      const auto qkv = converted<TestType>(normals(qkv_size(c), 1)), dout = converted<TestType>(normals(qkv_size(c) / 3, 2));
      const auto expected = run(device, c, converted<double>(qkv), converted<double>(dout)).dqkv;
      double top = 1;
      for (const double g : expected) top = std::max(top, std::abs(g));
      INFO(cpu::name_of(isa) << ", length " << c.length << ", dims " << c.dims);
      CHECK(largest_difference(run(device, c, qkv, dout).dqkv, expected) < 20 * top * unit<TestType>);
    }
  }
}

TEST_CASE("attend drops the probabilities that their places in the matrix say") {
  cpu::Device device({.threads = 2});
  for (auto c : cases()) {
    c.dropout = 0.25;
    c.random = {1130, stream_of("layer 3")};
    const auto qkv = normals(qkv_size(c), 1);
    const auto expected = oracle::attend(c, qkv);
    const auto result = run(device, c, qkv);
    CHECK(largest_difference(result.out, expected.out) < 1e-13);
    CHECK(largest_difference(result.log_sum, expected.log_sum) < 1e-13);  // dropout comes after the sum
  }
}

TEMPLATE_TEST_CASE("results do not depend on the number of threads", "", float, bfloat16) {
  for (auto c : cases()) {
    c.dropout = 0.1;
    const auto qkv = converted<TestType>(normals(qkv_size(c), 1)), dout = converted<TestType>(normals(qkv_size(c) / 3, 2));
    cpu::Device one({.threads = 1});
    const auto expected = run(one, c, qkv, dout);
    for (const int threads : {2, 3}) {
      cpu::Device device({.threads = threads});
      const auto result = run(device, c, qkv, dout);
      CHECK(result.out == expected.out);
      CHECK(result.log_sum == expected.log_sum);
      CHECK(result.dqkv == expected.dqkv);
    }
  }
}

TEST_CASE("layer_scale keeps large fp16 queries small before the product, and changes nothing else") {
  cpu::Device device({.threads = 2});
  const auto c = cases()[4];
  const auto qkv = normals(qkv_size(c), 1), dout = normals(qkv_size(c) / 3, 2);
  const auto expected = run(device, c, qkv, dout), scaled = run(device, c, qkv, dout, 70);
  CHECK(largest_difference(scaled.out, expected.out) < 1e-13);
  CHECK(largest_difference(scaled.log_sum, expected.log_sum) < 1e-13);
  CHECK(largest_difference(scaled.dqkv, expected.dqkv) < 1e-12);

  const float16 q(1.0f / 3), k(1.0f);  // one dim in use: the score is k * float16(q * scale / layer_scale) * layer_scale
  const std::vector<float16> pair{q, float16(0.0f), k, float16(0.0f), float16(0.0f), float16(0.0f)};
  const oracle::AttentionCase one{.windows = {{{0, 1, 0}}}, .scale = 0.7f};
  const float rounded = static_cast<float>(float16(static_cast<float>(q) * (0.7f / 7)));
  CHECK(run(device, one, pair, {}, 7).log_sum[0] == rounded * 7);
}

TEMPLATE_TEST_CASE("attend_cached, fed in any portions, gives what attend gives for the whole sequence", "", double, float, bfloat16, float16) {
  using T = TestType;
  constexpr int heads = 2, capacity = 320, slots = 3;
  struct Sequence {
    int prefix, slot;
    std::vector<int> portions;
  };
  const std::vector<Sequence> sequences{{100, 2, {101, 1, 1}}, {0, 0, {3, 70, 1}}, {5, 1, {280, 4, 5}}};
  const AttentionOptions options{.scale = 0.125f, .layer_scale = 3};
  for (const int dims : {6, 30, 96}) {
    std::vector<std::vector<double>> qkv, expected;
    for (const Sequence& s : sequences) {
      const int length = s.portions[0] + s.portions[1] + s.portions[2];
      const oracle::AttentionCase c{
          .rows = 1, .length = length, .heads = heads, .dims = dims, .windows = {{{0, length, s.prefix}}}, .scale = 0.125, .random = {}};
      qkv.push_back(converted<double>(converted<T>(normals(qkv_size(c), 10 + s.slot))));
      expected.push_back(oracle::attend(c, qkv.back()).out);
    }
    for (const cpu::Isa isa : isas()) {
      cpu::Device device({.threads = 2, .isa = isa});
      Buffer<T, cpu::Device> keys(device, slots * heads * capacity * dims, "test"), values(device, keys.size(), "test");
      const auto k = keys.view_at(0, slots, heads, capacity, dims), v = values.view_at(0, slots, heads, capacity, dims);
      std::vector<int> done(sequences.size());
      for (std::size_t portion = 0; portion < 3; ++portion) {
        std::vector<CachedSequence> call;
        std::vector<double> x, wanted;
        for (std::size_t s = 0; s < sequences.size(); ++s) {
          const int count = sequences[s].portions[portion], first = done[s], row = static_cast<int>(x.size() / (heads * 3 * dims));
          call.push_back({.row = row, .count = count, .first = first, .prefix = sequences[s].prefix, .slot = sequences[s].slot});
          x.insert(x.end(), qkv[s].begin() + first * heads * 3 * dims, qkv[s].begin() + (first + count) * heads * 3 * dims);
          wanted.insert(wanted.end(), expected[s].begin() + first * heads * dims, expected[s].begin() + (first + count) * heads * dims);
          done[s] += count;
        }
        const auto tokens = static_cast<std::int64_t>(x.size()) / (heads * 3 * dims);
        const auto input = upload(device, converted<T>(x));
        const auto calls = upload(device, call);
        Buffer<T, cpu::Device> out(device, tokens * heads * dims, "test");
        const auto x4 = input.view_at(0, tokens, heads, 3, dims);
        append_cache(device, k, v, x4, calls.view());
        attend_cached(device, out.view_at(0, tokens, heads, dims), x4, k, v, calls.view(), options);
        INFO(cpu::name_of(isa) << ", dims " << dims << ", portion " << portion);
        CHECK(largest_difference(download(device, out), wanted) < 40 * unit<T>);
      }
    }
  }
}

TEST_CASE("attention says what does not fit") {
  using Catch::Matchers::Contains;
  cpu::Device device({.threads = 1});
  std::vector<float> memory(4096);
  const View<const float, 4> qkv(memory.data(), 8, 2, 3, 4);
  const std::int32_t first[]{0, 0, 0, 0};
  const WindowList windows{{}, {first, 4}};
  CHECK_THROWS_WITH(attend(device, View<float, 3>(memory.data(), 8, 2, 4), {}, qkv, 3, windows, {}), Contains("8 tokens in 3 rows"));
  CHECK_THROWS_WITH(attend(device, View<float, 3>(memory.data(), 8, 2, 4), {}, qkv, 4, windows, {}), Contains("windows for 3"));
  CHECK_THROWS_WITH(attend(device, View<float, 3>(memory.data(), 8, 2, 2), {}, qkv, 2, {{}, {first, 3}}, {}), Contains("(8, 2, 2)"));
  const CachedSequence sequence{.row = 0, .count = 8, .first = 10, .slot = 0};
  const View<float, 4> cache(memory.data(), 1, 2, 16, 4);
  CHECK_THROWS_WITH(append_cache(device, cache, cache, qkv, {&sequence, 1}), Contains("tokens 10 to 18"));
}
