// Operands for the products of a linear layer, and how near a product must come to the oracle's.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "ops/numbers.hpp"
#include "oracle/gemm.hpp"

namespace ops {

struct Shape {
  std::int64_t n, i, o;
};

// Odd ones first; then depths, rows and columns beyond one step, tile and strip.
inline constexpr Shape shapes[]{{1, 1, 1},    {1, 37, 5},   {3, 130, 21},  {5, 64, 48},    {16, 33, 70},
                         {17, 19, 23}, {33, 16, 16}, {40, 401, 50}, {130, 65, 200}, {64, 193, 260}};

template <class T>
std::vector<T> draw(std::int64_t count, std::uint64_t stream) {
  std::vector<T> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = T(2 * Random{7, stream}.uniform(i) - 1);
  return values;
}

template <class T>
::oracle::Doubles widened(const std::vector<T>& values) {
  ::oracle::Doubles out;
  for (const T value : values) out.push_back(static_cast<double>(value));
  return out;
}

template <class T>
constexpr double unit = std::is_same_v<T, double>    ? 1e-15
              : std::is_same_v<T, float>   ? 6e-8
              : std::is_same_v<T, float16> ? 4.9e-4
                                           : 3.95e-3;

// Rounding of the stored value, and of a sum of `depth` products below 1 in Y's accumulator.
template <class T, class Y>
void require_close(const std::vector<Y>& got, const ::oracle::Doubles& expected, std::int64_t depth) {
  const double of_sum = unit<accumulate_t<T>> * (2 + static_cast<double>(depth)) * 2;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(static_cast<double>(got[i]) - expected[i]);
    if (!(error <= of_sum + 1.01 * unit<Y> * std::abs(expected[i])))
      FAIL("element " << i << " is " << static_cast<double>(got[i]) << " and should be " << expected[i]);
  }
}

// What one call of each of the three ops gives.
template <class T, class Y>
struct Results {
  std::vector<Y> y, dx;
  std::vector<accumulate_t<T>> dw, dbias;

  Results(TestDevice& device, Shape s) {
    using A = accumulate_t<T>;
    const Tensor<T> x(device, draw<T>(s.n * s.i, 1)), w(device, draw<T>(s.o * s.i, 2)), bias(device, draw<T>(s.o, 3)), dy(device, draw<T>(s.n * s.o, 4));
    const Tensor<Y> y_(device, std::vector<Y>(static_cast<std::size_t>(s.n * s.o), Y(NAN))), dx_(device, std::vector<Y>(static_cast<std::size_t>(s.n * s.i), Y(NAN)));
    const Tensor<A> dw_(device, draw<A>(s.o * s.i, 5)), dbias_(device, draw<A>(s.o, 6));
    project(device, y_.matrix(s.n), x.matrix(s.n), w.matrix(s.o), bias.vector());
    project_backward_input(device, dx_.matrix(s.n), dy.matrix(s.n), w.matrix(s.o));
    project_backward_weight(device, dw_.matrix(s.o), dbias_.vector(), dy.matrix(s.n), x.matrix(s.n));
    y = y_.typed(), dx = dx_.typed(), dw = dw_.typed(), dbias = dbias_.typed();
  }
};

template <class T, class Y>
void check_values(TestDevice& device, Shape s) {
  using A = accumulate_t<T>;
  const Results<T, Y> got(device, s);
  const auto n = static_cast<std::size_t>(s.n), i = static_cast<std::size_t>(s.i), o = static_cast<std::size_t>(s.o);
  const auto x = widened(draw<T>(s.n * s.i, 1)), w = widened(draw<T>(s.o * s.i, 2)), bias = widened(draw<T>(s.o, 3)),
             dy = widened(draw<T>(s.n * s.o, 4));
  auto dw = ::oracle::project_backward_weight(dy, x, n, i, o), dbias = widened(draw<A>(s.o, 6));
  const auto dw_before = widened(draw<A>(s.o * s.i, 5));
  for (std::size_t e = 0; e < dw.size(); ++e) dw[e] += dw_before[e];
  for (std::size_t e = 0; e < dy.size(); ++e) dbias[e % o] += dy[e];
  INFO("N " << s.n << ", I " << s.i << ", O " << s.o);
  require_close<T>(got.y, ::oracle::project(x, w, bias, n, i, o), s.i);
  require_close<T>(got.dx, ::oracle::project_backward_input(dy, w, n, i, o), s.o);
  require_close<T>(got.dw, dw, s.n);
  require_close<T>(got.dbias, dbias, s.n);
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace ops
