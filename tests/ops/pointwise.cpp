// The pointwise ops against plain double loops: odd sizes, every element type and instruction set, any number of threads.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "catch.hpp"
#include "golem/golem.hpp"

using namespace golem;

namespace {

// A tensor in T, with the same values in double.
template <class T>
struct Numbers {
  std::vector<T> typed;
  std::vector<double> exact;

  explicit Numbers(std::int64_t count) : typed(static_cast<std::size_t>(count)), exact(typed.size()) {}
  Numbers(std::int64_t count, std::uint64_t seed, double scale = 1, double shift = 0) : Numbers(count) {
    for (std::size_t i = 0; i < typed.size(); ++i) {
      typed[i] = T(shift + scale * Random{seed, 1}.normal(i));
      exact[i] = static_cast<double>(typed[i]);
    }
  }
  View<T, 2> matrix(std::int64_t rows) { return {typed.data(), rows, static_cast<std::int64_t>(typed.size()) / rows}; }
  View<T, 1> vector() { return {typed.data(), static_cast<std::int64_t>(typed.size())}; }
};

// Rounding of one stored value of T, with room for a few float operations before it.
template <class T>
double tolerance() {
  if constexpr (std::is_same_v<T, double>) return 1e-12;
  else if constexpr (std::is_same_v<T, float>) return 2e-6;
  else if constexpr (std::is_same_v<T, float16>) return 1e-3;
  else return 8e-3;
}

template <class T>
void check(const std::vector<T>& got, const std::vector<double>& expected, double scale = 1) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    INFO("element " << i);
    REQUIRE(static_cast<double>(got[i]) == Approx(expected[i]).epsilon(tolerance<T>()).margin(scale * tolerance<T>()));
  }
}

template <class Body>
void on_each_isa(const Body& body) {
  for (const cpu::Isa isa : {cpu::Isa::plain, cpu::Isa::avx2, cpu::Isa::avx512}) {
    if (isa > cpu::detect_isa()) continue;
    INFO(cpu::name_of(isa));
    cpu::Device device({.threads = 2, .isa = isa});
    body(device);
  }
}

double cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }
double density(double x) { return std::exp(-0.5 * x * x) / std::sqrt(2 * 3.14159265358979323846); }

constexpr std::int64_t rows = 5, columns = 37;

}  // namespace

TEMPLATE_TEST_CASE("LayerNorm with its residual, forward and backward", "", float, double, bfloat16, float16) {
  using T = TestType;
  using A = accumulate_t<T>;
  Numbers<T> a(rows * columns, 1), b(rows * columns, 2), gamma(columns, 3, 0.3, 1), beta(columns, 4, 0.3), dy(rows * columns, 5), outside(rows * columns, 6);
  const double alpha = 2.5, eps = 1e-5;
  on_each_isa([&](cpu::Device& device) {
    Numbers<T> y(rows * columns), sum(rows * columns), dx(rows * columns);
    std::vector<A> mean(rows), rstd(rows), d_gamma(columns, A(0.5)), d_beta(columns);
    normalize_sum(device, y.matrix(rows), sum.matrix(rows), a.matrix(rows), b.matrix(rows), alpha, gamma.vector(), beta.vector(), eps, View<A, 1>{mean.data(), rows}, View<A, 1>{rstd.data(), rows});
    normalize_backward(device, dx.matrix(rows), View<A, 1>{d_gamma.data(), columns}, View<A, 1>{d_beta.data(), columns}, dy.matrix(rows), sum.matrix(rows), gamma.vector(),
                       View<A, 1>{mean.data(), rows}, View<A, 1>{rstd.data(), rows}, ResidualGradient<T>{.inside = a.matrix(rows), .outside = outside.matrix(rows), .alpha = alpha});
    std::vector<double> want_y, want_sum, want_dx, want_gamma(columns, 0.5), want_beta(columns);
    for (std::int64_t n = 0; n < rows; ++n) {
      double m = 0, v = 0, up_mean = 0, up_dot = 0;
      std::vector<double> x(columns), up(columns);
      for (std::size_t i = 0; i < columns; ++i) {
        const std::size_t at = static_cast<std::size_t>(n) * columns + i;
        want_sum.push_back(alpha * a.exact[at] + b.exact[at]);
        x[i] = static_cast<double>(sum.typed[at]);  // as stored
        up[i] = dy.exact[at] + alpha * a.exact[at];
        m += x[i] / columns;
      }
      for (const double value : x) v += (value - m) * (value - m) / columns;
      const double r = 1 / std::sqrt(v + eps);
      for (std::size_t i = 0; i < columns; ++i) {
        const double hat = (x[i] - m) * r;
        want_y.push_back(hat * gamma.exact[i] + beta.exact[i]);
        want_gamma[i] += up[i] * hat, want_beta[i] += up[i];
        up_mean += up[i] * gamma.exact[i] / columns, up_dot += up[i] * gamma.exact[i] * hat / columns;
      }
      for (std::size_t i = 0; i < columns; ++i) want_dx.push_back(r * (up[i] * gamma.exact[i] - up_mean - (x[i] - m) * r * up_dot) + outside.exact[static_cast<std::size_t>(n) * columns + i]);
    }
    check(sum.typed, want_sum, 4), check(y.typed, want_y, 4), check(dx.typed, want_dx, 8);
    check(d_gamma, want_gamma, 40), check(d_beta, want_beta, 40);
  });
}

TEMPLATE_TEST_CASE("GeGLU and GeLU with the exact erf, forward and backward", "", float, double, bfloat16, float16) {
  using T = TestType;
  for (const Ffn kind : {Ffn::geglu, Ffn::gelu}) {
    const std::int64_t wide = kind == Ffn::geglu ? 2 * columns : columns;
    Numbers<T> u(rows * wide, 1, 2), dy(rows * columns, 2);
    on_each_isa([&](cpu::Device& device) {
      Numbers<T> y(rows * columns), du(rows * wide);
      activate(device, y.matrix(rows), u.matrix(rows), kind);
      activate_backward(device, du.matrix(rows), dy.matrix(rows), u.matrix(rows), kind);
      std::vector<double> want(static_cast<std::size_t>(rows * columns)), want_du(static_cast<std::size_t>(rows * wide));
      for (std::int64_t n = 0; n < rows; ++n)
        for (std::int64_t i = 0; i < columns; ++i) {
          const auto at = static_cast<std::size_t>(n * columns + i), first = static_cast<std::size_t>(n * wide + i), gate = kind == Ffn::geglu ? first + columns : first;
          const double x = u.exact[gate], linear = kind == Ffn::geglu ? u.exact[first] : 1;
          want[at] = linear * x * cdf(x);
          if (kind == Ffn::geglu) want_du[first] = dy.exact[at] * x * cdf(x);
          want_du[gate] = dy.exact[at] * linear * (cdf(x) + x * density(x));
        }
      check(y.typed, want), check(du.typed, want_du);
    });
  }
}

TEMPLATE_TEST_CASE("rotation turns pairs, and its backward turns them back", "", float, double, bfloat16, float16) {
  using T = TestType;
  using A = accumulate_t<T>;
  constexpr std::int64_t heads = 2, dim = 22;
  const Numbers<T> original(rows * heads * 3 * dim, 1);
  std::vector<A> cos, sin;
  for (int p = 0; p < 9; ++p)
    for (int i = 0; i < dim / 2; ++i) cos.push_back(static_cast<A>(std::cos(p * 0.1 * i))), sin.push_back(static_cast<A>(std::sin(p * 0.1 * i)));
  const std::vector<std::int32_t> positions{0, 8, 3, 3, 5};
  on_each_isa([&](cpu::Device& device) {
    Numbers<T> x = original;
    const View<T, 4> view{x.typed.data(), rows, heads, 3, dim};
    const View<const A, 2> c{cos.data(), 9, dim / 2}, s{sin.data(), 9, dim / 2};
    const View<const std::int32_t, 1> at{positions.data(), rows};
    rotate(device, view, c, s, at);
    std::vector<double> want = original.exact;
    for (std::int64_t n = 0; n < rows; ++n)
      for (std::int64_t part = 0; part < heads * 3; ++part)
        for (std::int64_t j = 0; j < dim / 2 && part % 3 < 2; ++j) {
          double &first = want[static_cast<std::size_t>((n * heads * 3 + part) * dim + j)], &second = (&first)[dim / 2];
          const double angle = positions[static_cast<std::size_t>(n)] * 0.1 * static_cast<double>(j), a = first, b = second;
          first = a * std::cos(angle) - b * std::sin(angle), second = b * std::cos(angle) + a * std::sin(angle);
        }
    check(x.typed, want, 2);
    rotate_backward(device, view, c, s, at);
    check(x.typed, original.exact, 4);
  });
}

TEMPLATE_TEST_CASE("cross entropy over a shard: statistics, losses and gradients", "", float, double, bfloat16) {
  using T = TestType;
  using A = accumulate_t<T>;
  constexpr std::int64_t first = 100;
  Numbers<A> logits(rows * columns, 1, 3);
  const std::vector<std::int32_t> targets{100, 136, 99, 120, 137};  // the third and the last are not here
  const std::vector<A> weights{A(0.5), A(1), A(2), A(0.25), A(3)};
  on_each_isa([&](cpu::Device& device) {
    std::vector<A> max(rows), sum(rows), picked(rows), losses(rows);
    Numbers<T> d(rows * columns);
    const View<A, 1> m{max.data(), rows}, s{sum.data(), rows}, p{picked.data(), rows};
    const View<const std::int32_t, 1> t{targets.data(), rows};
    logit_statistics(device, m, s, p, logits.matrix(rows), t, first);
    token_losses(device, View<A, 1>{losses.data(), rows}, m, s, p);
    logit_gradient(device, d.matrix(rows), logits.matrix(rows), t, m, s, View<const A, 1>{weights.data(), rows}, first);
    std::vector<double> want, want_losses;
    for (std::size_t n = 0; n < rows; ++n) {
      double total = 0;
      for (std::size_t v = 0; v < columns; ++v) total += std::exp(logits.exact[n * columns + v]);
      const std::int64_t target = targets[n] - first;
      const bool here = target >= 0 && target < columns;
      want_losses.push_back(std::log(total) - (here ? logits.exact[n * columns + static_cast<std::size_t>(target)] : 0));
      for (std::int64_t v = 0; v < columns; ++v)
        want.push_back(static_cast<double>(weights[n]) * (std::exp(logits.exact[n * columns + static_cast<std::size_t>(v)]) / total - (here && v == target ? 1 : 0)));
    }
    check(losses, want_losses), check(d.typed, want);
  });
}

TEMPLATE_TEST_CASE("embedding rows and their gradient, with tokens of other shards", "", float, double, bfloat16, float16) {
  using T = TestType;
  using A = accumulate_t<T>;
  Numbers<T> table(7 * columns, 1), dx(rows * columns, 2);
  const std::vector<std::int32_t> tokens{10, 16, 10, 9, 17};
  const View<const std::int32_t, 1> t{tokens.data(), rows};
  on_each_isa([&](cpu::Device& device) {
    Numbers<T> x(rows * columns);
    std::vector<A> d(7 * columns, A(1));
    embed(device, x.matrix(rows), table.matrix(7), t, 10);
    embed_backward(device, View<A, 2>{d.data(), 7, columns}, dx.matrix(rows), t, 10, 0.5);
    std::vector<double> want(static_cast<std::size_t>(rows * columns)), want_d(7 * columns, 1.0);
    for (std::size_t n = 0; n < rows; ++n)
      for (std::size_t i = 0; i < columns && tokens[n] >= 10 && tokens[n] < 17; ++i) {
        want[n * columns + i] = table.exact[static_cast<std::size_t>(tokens[n] - 10) * columns + i];
        want_d[static_cast<std::size_t>(tokens[n] - 10) * columns + i] += 0.5 * dx.exact[n * columns + i];
      }
    check(x.typed, want), check(d, want_d);
  });
}

TEST_CASE("dropout keeps what its random halves say, scales it, and is the same in the backward") {
  for (const std::int64_t size : {1, 7, 8, 5000}) {
    Numbers<float> x(size, 1), y(size), again(size);
    const Random random{5, 6};
    cpu::Device device({.threads = 3});
    const View<float, 2> out{y.typed.data(), 1, size};
    drop(device, out, x.matrix(1), 0.25, random);
    int kept = 0;
    for (std::int64_t i = 0; i < size; ++i) {
      const std::uint32_t half = random.bits(static_cast<std::uint64_t>(i) / 8).word[i % 8 / 2] >> (16 * (i % 2)) & 0xffff;
      kept += half >= 16384;
      REQUIRE(y.typed[static_cast<std::size_t>(i)] == (half >= 16384 ? x.typed[static_cast<std::size_t>(i)] * (1 / 0.75f) : 0.0f));
    }
    if (size == 5000) CHECK(std::abs(kept / 5000.0 - 0.75) < 0.03);
  }
}

TEMPLATE_TEST_CASE("AdamW, sums of squares and conversion over flat segments", "", float, bfloat16, float16) {
  using T = TestType;
  constexpr std::int64_t size = 40001;
  Numbers<float> gradient(size, 1, 0.1), start(size, 2), m0(size, 3, 0.01), v0(size, 4, 0.01);
  for (float& v : v0.typed) v = std::abs(v);
  const AdamwStep step{.learning_rate = 0.01, .decay = 0.1, .correction1 = 0.19, .correction2 = 0.0975, .gradient_scale = 0.5};
  on_each_isa([&](cpu::Device& device) {
    Numbers<float> w = start, m = m0, v = v0;
    Numbers<T> compute(size);
    adamw(device, AdamwTensors<float, T>{w.vector(), m.vector(), v.vector(), compute.vector(), gradient.vector()}, step);
    double squares = 0;
    for (std::size_t i = 0; i < size; ++i) {
      const double g = 0.5 * gradient.exact[i], mi = 0.9 * m0.exact[i] + 0.1 * g, vi = 0.95 * static_cast<double>(v0.typed[i]) + 0.05 * g * g;
      const double want = start.exact[i] - 0.01 * (mi / 0.19 / (std::sqrt(vi / 0.0975) + 1e-8) + 0.1 * start.exact[i]);
      squares += gradient.exact[i] * gradient.exact[i];
      REQUIRE(w.typed[i] == Approx(want).epsilon(1e-5).margin(1e-6));
      REQUIRE(compute.typed[i] == T(w.typed[i]));
    }
    CHECK(sum_of_squares(device, View<const float, 1>(gradient.vector())) == Approx(squares).epsilon(1e-6));
    Numbers<T> converted(size);
    convert(device, converted.vector(), w.vector());
    CHECK(converted.typed == compute.typed);
  });
  gradient.typed[7] = std::numeric_limits<float>::infinity();
  cpu::Device device({.threads = 1});
  CHECK(std::isinf(sum_of_squares(device, View<const float, 1>(gradient.vector()))));
}
