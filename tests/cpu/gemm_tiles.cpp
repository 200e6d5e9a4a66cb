// How products are cut up for oneDNN: all of the output once, enough tiles, even shares; operands that stride over pages.
// SPDX-License-Identifier: Apache-2.0
#include "golem/cpu/gemm_tiles.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "golem/cpu/gemm_onednn.hpp"
#include "golem/cpu/gemm_plain.hpp"

using namespace golem;
using golem::cpu::Operand, golem::cpu::OutputTiles, golem::cpu::Product;

namespace {

// The largest share of the output that one of `threads` threads gets, which take contiguous runs of tiles, as a multiple of an even one.
double largest_share(std::int64_t rows, std::int64_t columns, int threads) {
  const OutputTiles tiles(rows, columns);
  double largest = 0;
  for (int t = 0; t < threads; ++t) {
    double elements = 0;
    for (std::int64_t i = tiles.count() * t / threads; i < tiles.count() * (t + 1) / threads; ++i)
      elements += static_cast<double>(std::min(tiles.rows, rows - i / tiles.across * tiles.rows)) *
                  static_cast<double>(std::min(tiles.columns, columns - i % tiles.across * tiles.columns));
    largest = std::max(largest, elements);
  }
  return largest * threads / (static_cast<double>(rows) * static_cast<double>(columns));
}

}  // namespace

TEST_CASE("tiles cover the output, none is empty, and four or more are shared out where there is room") {
  for (const std::int64_t rows : {1, 17, 95, 192, 193, 484, 576, 1024, 3000})
    for (const std::int64_t columns : {1, 100, 191, 192, 512, 769, 4096}) {
      const OutputTiles tiles(rows, columns);
      INFO(rows << " x " << columns << " in " << tiles.rows << " x " << tiles.columns);
      CHECK(tiles.down * tiles.rows >= rows);
      CHECK((tiles.down - 1) * tiles.rows < rows);
      CHECK(tiles.across * tiles.columns >= columns);
      CHECK((tiles.across - 1) * tiles.columns < columns);
      CHECK((tiles.rows <= 512 && tiles.columns <= 768));
      if (rows >= 192 && columns >= 192) CHECK(tiles.count() >= 4);
    }
}

TEST_CASE("two threads get even shares of the products of a model 192 wide") {
  for (const auto& [rows, columns] : {std::pair{1024, 576}, {1024, 192}, {1024, 1024}, {1024, 512}, {576, 192}, {192, 192}, {192, 512}, {480, 4096}, {4096, 192}}) {
    INFO(rows << " x " << columns);
    CHECK(largest_share(rows, columns, 2) < 1.05);
  }
}

TEST_CASE("an operand strides over pages where it is summed over its rows, and a row is whole pages") {
  const float values[1]{};
  CHECK(cpu::strides_over_pages(Operand<float>{values, 1, 1024}));
  CHECK(cpu::strides_over_pages(Operand<float>{values, 1, 4096}));
  CHECK_FALSE(cpu::strides_over_pages(Operand<float>{values, 1, 1040}));
  CHECK_FALSE(cpu::strides_over_pages(Operand<float>{values, 1, 512}));
  CHECK_FALSE(cpu::strides_over_pages(Operand<float>{values, 1024, 1}));
}

#if GOLEM_ONEDNN
TEST_CASE("products whose first operand strides over pages are right, more than one step deep") {
  constexpr std::int64_t rows = 1024, columns = 5, depth = 2051;
  cpu::Device device({.threads = 2});
  std::vector<float> a(rows * depth), b(columns * depth), bias(columns), own(rows * columns), got(own.size());
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i * 7919 % 1009) / 1009 - 0.5f;
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(i * 104729 % 997) / 997 - 0.5f;
  for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<float>(i);
  for (const int start : {0, 1, 2}) {  // from nothing, from a bias, from what is there
    std::fill(own.begin(), own.end(), 3.0f), std::fill(got.begin(), got.end(), 3.0f);
    Product<float, float> product{rows, columns, depth, {a.data(), 1, rows}, {b.data(), 1, columns}, own.data(), columns, start == 1 ? bias.data() : nullptr, start == 2};
    multiply_plain(device, product);
    product.c = got.data();
    multiply_onednn(device, product);
    for (std::size_t i = 0; i < own.size(); ++i)
      if (!(std::abs(got[i] - own[i]) < 1e-3f)) FAIL("start " << start << ": element " << i << " is " << got[i] << " and should be " << own[i]);
  }
}
#endif
