// Numbers in every element type with the same values in double, and how near an op must come to its plain double loop.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "ops/engine.hpp"

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
};

/// A tensor on the device that is tested; whatever it was made from is copied.
template <class T>
class Tensor {
 public:
  Tensor(TestDevice& device, std::int64_t count) : Tensor(device, std::vector<T>(static_cast<std::size_t>(count))) {}
  Tensor(TestDevice& device, const std::vector<T>& values) : device_(&device), buffer_(device, static_cast<std::int64_t>(values.size()), "test") {
    device.copy_in(buffer_.data(), values.data(), buffer_.bytes());
  }
  Tensor(TestDevice& device, std::initializer_list<T> values) : Tensor(device, std::vector<T>(values)) {}
  Tensor(TestDevice& device, const Numbers<T>& numbers) : Tensor(device, numbers.typed) {}

  View<T, 2> matrix(std::int64_t rows) const { return {buffer_.data(), rows, buffer_.size() / rows}; }
  View<T, 1> vector() const { return buffer_.view(); }
  template <class... Extents>
  View<T, sizeof...(Extents)> view(Extents... extents) const {
    return buffer_.view_at(0, extents...);
  }

  std::vector<T> typed() const {
    std::vector<T> values(static_cast<std::size_t>(buffer_.size()));
    device_->copy_out(values.data(), buffer_.data(), buffer_.bytes());
    return values;
  }

 private:
  TestDevice* device_;
  Buffer<T, TestDevice> buffer_;
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

template <class T>
std::string difference(const Tensor<T>& got, const std::vector<double>& expected, double scale = 1) {
  return difference(got.typed(), expected, scale);
}

}  // namespace ops
