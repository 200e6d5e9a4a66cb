// Products of warpgroups, as the PTX ISA documents them: operands found by the bits of their descriptions, sums that come when they are waited for.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>
#include <deque>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "simt/async.hpp"
#include "simt/block.hpp"

namespace simt {
namespace {

constexpr int rows = 16, depth = 16;  // of a warp's part of a product: c (16, columns) += a (16, 16) b (16, columns)

/// An operand in shared memory, 16 bytes at a time.
struct Matrix {
  unsigned start, far, stride, swizzle;  // bytes; `far` is the leading dimension's offset

  explicit Matrix(std::uint64_t bits) {
    const auto field = [&](int first) { return static_cast<unsigned>(bits >> first & 0x3fff) << 4; };
    constexpr unsigned spans[]{0, 128, 64, 32};
    start = field(0), far = field(16), stride = field(32), swizzle = spans[bits >> 62];
    if (bits & 0x3ff1c000c000c000) complain("a matrix description has bits that mean nothing");
    if (bits >> 49 & 7) complain("base offsets of matrix descriptions are not emulated");
    if (swizzle && start & (8 * swizzle - 1) & ~127u) complain("a matrix begins within its swizzle pattern, at byte " + std::to_string(start));
  }
  /// Where the 8 elements `part` of row `row` are, for a matrix that lies by rows (K-major).
  unsigned by_rows(int row, int part) const {
    const unsigned r = static_cast<unsigned>(row), p = static_cast<unsigned>(part), pitch = swizzle ? swizzle : 16;
    return swizzled(start + r / 8 * stride + r % 8 * pitch + p * (swizzle ? 16 : far));
  }
  /// Where elements 8 `part` to 8 `part` + 7 along the columns are, of row `row`, for one that lies by columns (MN-major).
  unsigned by_columns(int part, int row) const {
    const unsigned r = static_cast<unsigned>(row), p = static_cast<unsigned>(part), wide = swizzle / 16;
    if (!swizzle) return start + p * stride + r / 8 * far + r % 8 * 16;
    return swizzled(start + p / wide * far + p % wide * 16 + r / 8 * stride + r % 8 * swizzle);
  }
  unsigned swizzled(unsigned address) const { return swizzle ? address ^ (address >> 3 & (swizzle - 16)) : address; }
};

struct Chunk {
  unsigned address;
  std::uint16_t element[8];

  Chunk(unsigned from, const char* who) : address(from) {
    async::check_readable(address, 16, who);
    std::memcpy(element, async::at(address), 16);
  }
  bool unchanged() const { return !async::is_arriving(address, 16) && std::memcmp(element, async::at(address), 16) == 0; }
};

/// One warp's part of a product that is under way.
struct Issued {
  Product product;                  // lane 0's
  std::vector<Chunk> a, b;          // a: [row][part]; b: [column][part], or [part of columns][row]
  const std::uint32_t* lane_a[32];  // where a is in registers
  std::uint32_t a_registers[32][4];
};

/// Sums that products are under way for: until all are done, registers hold NaN.
struct Sums {
  int under_way = 0;
  float* lane[32];
  std::vector<float> values;  // [lane][columns / 2]
};

struct Warp {
  bool begun = false;
  std::vector<Issued> open;
  std::deque<std::vector<Issued>> groups;  // committed
  std::map<const float*, Sums> sums;       // by lane 0's
  std::size_t products = 0;
};

struct Warpgroup {
  std::vector<Product> products;  // as its first warp asked for them
};

std::vector<Warp> warps;
std::vector<Warpgroup> warpgroups;

Warp& own_warp() { return warps[static_cast<std::size_t>(current_thread() / 32)]; }

bool same(const Product& a, const Product& b) {
  return a.a_matrix == b.a_matrix && a.b_matrix == b.b_matrix && a.columns == b.columns && a.b_by_columns == b.b_by_columns && a.goes_on == b.goes_on && (a.a == nullptr) == (b.a == nullptr);
}

void issue(void* const (&requests)[32], unsigned) {
  Warp& warp = own_warp();
  const int number = current_thread() / 32, first_row = number % 4 * rows;
  Issued issued{.product = *static_cast<const Product*>(requests[0]), .a = {}, .b = {}, .lane_a = {}, .a_registers = {}};
  const Product& p = issued.product;
  if (!warp.begun) complain("a product was asked for without begin_products behind the last wait");
  if (static_cast<std::size_t>(number / 4 * 4 + 4) > warps.size()) complain("a product was asked of less than four warps");
  Warpgroup& group = warpgroups[static_cast<std::size_t>(number / 4)];
  if (warp.products == group.products.size()) group.products.push_back(p);
  else if (!same(p, group.products[warp.products])) complain("the warps of a warpgroup asked for different products");
  ++warp.products;

  Sums& sums = warp.sums[p.c];
  const bool first = sums.under_way++ == 0;
  const auto lane_sums = static_cast<std::size_t>(p.columns / 2);
  if (first) sums.values.assign(32 * lane_sums, 0.0f);
  for (int l = 0; l < 32; ++l) {
    const Product& lane = *static_cast<const Product*>(requests[l]);
    if (!same(lane, p)) complain("the lanes of a warp asked for different products");
    if (first) sums.lane[l] = lane.c;
    if (first && p.goes_on) std::memcpy(&sums.values[static_cast<std::size_t>(l) * lane_sums], lane.c, 4 * lane_sums);
    for (std::size_t i = 0; i < lane_sums; ++i) lane.c[i] = std::numeric_limits<float>::quiet_NaN();
    issued.lane_a[l] = lane.a;
    if (lane.a) std::memcpy(issued.a_registers[l], lane.a, sizeof issued.a_registers[l]);
  }
  if (!p.a) {
    const Matrix a(p.a_matrix);
    for (int row = 0; row < rows; ++row)
      for (int part = 0; part < 2; ++part) issued.a.emplace_back(a.by_rows(first_row + row, part), "a product's left side");
  }
  const Matrix b(p.b_matrix);
  if (p.b_by_columns) {
    for (int part = 0; part < p.columns / 8; ++part)
      for (int k = 0; k < depth; ++k) issued.b.emplace_back(b.by_columns(part, k), "a product's right side");
  } else {
    for (int column = 0; column < p.columns; ++column)
      for (int part = 0; part < 2; ++part) issued.b.emplace_back(b.by_rows(column, part), "a product's right side");
  }
  warp.open.push_back(std::move(issued));
}

void complete(const Issued& issued, Warp& warp) {
  const Product& p = issued.product;
  for (const std::vector<Chunk>* side : {&issued.a, &issued.b})
    for (const Chunk& chunk : *side)
      if (!chunk.unchanged()) complain("shared memory changed before a product that reads it was waited for");
  float a[rows][depth], b[depth][256], c[rows][256];
  for (int i = 0; i < rows && !p.a; ++i)
    for (int k = 0; k < depth; ++k) a[i][k] = p.widen(issued.a[static_cast<std::size_t>(2 * i + k / 8)].element[k % 8]);
  for (int l = 0; l < 32 && p.a; ++l) {
    if (std::memcmp(issued.a_registers[l], issued.lane_a[l], sizeof issued.a_registers[l]) != 0) complain("registers changed before a product that reads them was waited for");
    for (int i = 0; i < 4; ++i)
      for (int half = 0; half < 2; ++half) a[l / 4 + i % 2 * 8][2 * (l % 4) + i / 2 * 8 + half] = p.widen(static_cast<std::uint16_t>(issued.a_registers[l][i] >> 16 * half));
  }
  for (int k = 0; k < depth; ++k)
    for (int j = 0; j < p.columns; ++j)
      b[k][j] = p.widen(p.b_by_columns ? issued.b[static_cast<std::size_t>(j / 8 * depth + k)].element[j % 8] : issued.b[static_cast<std::size_t>(2 * j + k / 8)].element[k % 8]);
  Sums& sums = warp.sums.at(p.c);
  const std::size_t lane_sums = static_cast<std::size_t>(p.columns / 2);
  const auto value = [&](int i, int j) -> float& { return sums.values[static_cast<std::size_t>(i % 8 * 4 + j % 8 / 2) * lane_sums + static_cast<std::size_t>(j / 8 * 4 + i / 8 * 2 + j % 2)]; };
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < p.columns; ++j) c[i][j] = p.goes_on ? value(i, j) : 0.0f;
    for (int k = 0; k < depth; ++k)
      for (int j = 0; j < p.columns; ++j) c[i][j] += a[i][k] * b[k][j];
    for (int j = 0; j < p.columns; ++j) value(i, j) = c[i][j];
  }
  if (--sums.under_way > 0) return;
  for (int l = 0; l < 32; ++l) {
    for (std::size_t i = 0; i < lane_sums; ++i)
      if (!std::isnan(sums.lane[l][i])) complain("sums were written while a product was under way");
    std::memcpy(sums.lane[l], &sums.values[static_cast<std::size_t>(l) * lane_sums], 4 * lane_sums);
  }
  warp.sums.erase(p.c);
}

}  // namespace

void begin_products(const std::source_location& where) {
  act_together("begin_products", 0xffffffffu, nullptr, [](void* const (&)[32], unsigned) { own_warp().begun = true; }, where);
}

void multiply_async(Product product, const std::source_location& where) { act_together("a product", 0xffffffffu, &product, issue, where); }

void commit_products(const std::source_location& where) {
  act_together(
      "commit_products", 0xffffffffu, nullptr,
      [](void* const (&)[32], unsigned) {
        own_warp().groups.push_back(std::move(own_warp().open));
        own_warp().open.clear();
      },
      where);
}

void wait_for_products(int pending_groups, const std::source_location& where) {
  act_together(
      "wait_for_products", 0xffffffffu, &pending_groups,
      [](void* const (&requests)[32], unsigned) {
        Warp& warp = own_warp();
        warp.begun = false;
        for (const auto pending = static_cast<std::size_t>(*static_cast<const int*>(requests[0])); warp.groups.size() > pending; warp.groups.pop_front())
          for (const Issued& issued : warp.groups.front()) complete(issued, warp);
      },
      where);
}

void settle(const float* c) {
  for (const auto& [first, sums] : own_warp().sums)
    if (sums.lane[current_thread() % 32] == c) complain("sums were settled before the products that give them were waited for");
}

namespace async {

void begin_products_of_block(std::size_t threads) {
  warps.assign((threads + 31) / 32, {});
  warpgroups.assign((threads + 127) / 128, {});
}

void end_products_of_thread(int thread) {
  const Warp& warp = warps[static_cast<std::size_t>(thread / 32)];
  if (!warp.open.empty() || !warp.groups.empty()) complain("thread " + std::to_string(thread) + " ended before its products did");
}

void end_products_of_block() {
  for (std::size_t w = 0; w < warps.size(); ++w)
    if (warps[w].products != warpgroups[w / 4].products.size()) complain("not all warps of a warpgroup asked for its products");
}

}  // namespace async
}  // namespace simt
