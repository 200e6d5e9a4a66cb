// Numbers in every element type with the same values in double, and how near an op must come to its plain double loop.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "golem/golem.hpp"

namespace ops {

using namespace golem;

inline constexpr std::int64_t rows = 5, columns = 37;  // no whole number of vectors

/// A tensor in T, with the same values in double.
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

/// Rounding of one stored value of T, with room for a few float operations before it.
template <class T>
double tolerance() {
  if constexpr (std::is_same_v<T, double>) return 1e-12;
  else if constexpr (std::is_same_v<T, float>) return 2e-6;
  else if constexpr (std::is_same_v<T, float16>) return 1e-3;
  else return 8e-3;
}

/// The first element that is not what it should be, as a sentence; "" where all are. `scale`: of the numbers that were added up.
template <class T>
std::string difference(const std::vector<T>& got, const std::vector<double>& expected, double scale = 1) {
  if (got.size() != expected.size()) return sentence(got.size(), " elements, and should be ", expected.size());
  for (std::size_t i = 0; i < got.size(); ++i)
    if (static_cast<double>(got[i]) != Approx(expected[i]).epsilon(tolerance<T>()).margin(scale * tolerance<T>()))
      return sentence("element ", i, " is ", static_cast<double>(got[i]), " and should be ", expected[i]);
  return "";
}

/// Calls body(device) for a device of each instruction set that this processor has.
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
