// Numbers in every element type with the same values in double, and how near an op must come to its plain double loop.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "golem/golem.hpp"

namespace ops {

using namespace golem;

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

}  // namespace ops
