// Slices: copies and covers of random ones against an oracle that lists every element.
// SPDX-License-Identifier: Apache-2.0
#include "golem/core/slice.hpp"

#include <map>
#include <set>
#include <string>

#include "catch.hpp"
#include "core/random_slices.hpp"
#include "golem/core/error.hpp"

using golem::MatrixExtent, golem::Slice, golem::SliceBlocks;
using test::elements_of, test::random_slice;

namespace {

std::string error_of(const Slice& slice, const MatrixExtent& extent) {
  try {
    golem::check_slice(slice, extent, "w");
  } catch (const golem::Error& error) {
    return error.what();
  }
  return "no error";
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("what two slices share is copied from the one to the other, and nothing else") {
  test::SliceDice dice(1);
  std::size_t shared = 0, runs = 0;
  for (int i = 0; i < 20000; ++i) {
    const MatrixExtent extent{1 + dice(13), 1 + dice(9) * dice(2)};
    const Slice from = random_slice(extent, dice), to = random_slice(extent, dice);
    REQUIRE(error_of(from, extent) == "no error");
    const auto there = elements_of(from, extent), wanted = elements_of(to, extent);
    std::vector<std::int64_t> copied(wanted.size(), -1), expected = copied;
    for (std::size_t k = 0; k < wanted.size(); ++k)
      if (std::find(there.begin(), there.end(), wanted[k]) != there.end()) expected[k] = wanted[k], ++shared;
    golem::for_each_shared(SliceBlocks(from), SliceBlocks(to), [&](std::int64_t a, std::int64_t b, std::int64_t count) {
      REQUIRE((a >= 0 && b >= 0 && count > 0 && a + count <= from.size() && b + count <= to.size()));
      std::copy_n(there.begin() + a, count, copied.begin() + b);
      ++runs;
    });
    REQUIRE(copied == expected);
  }
  CHECK(shared > 30000);
  CHECK(shared > 2 * runs);  // not element by element
}

TEST_CASE("rows that lie together are one copy") {
  const auto copies = [](const Slice& a, const Slice& b) {
    int count = 0;
    golem::for_each_shared(SliceBlocks(a), SliceBlocks(b), [&](std::int64_t, std::int64_t, std::int64_t) { ++count; });
    return count;
  };
  const Slice whole = golem::whole_slice({1001, 37}), rows{{{3, 500}, {}}, {0, 37}, {0, 500 * 37}}, columns{{{0, 1001}, {}}, {5, 9}, {0, 9009}};
  CHECK(copies(whole, whole) == 1);
  CHECK(copies(whole, rows) == 1);
  CHECK(copies(columns, columns) == 1);
  CHECK(copies(columns, rows) == 500);
  CHECK(copies(golem::whole_slice({1001, 1}), {{{0, 300}, {500, 300}}, {0, 1}, {7, 555}}) == 2);
}

TEST_CASE("a cover is known to miss nothing and to give nothing twice") {
  test::SliceDice dice(2);
  std::map<std::string, int> seen;
  for (int i = 0; i < 20000; ++i) {
    const MatrixExtent extent{1 + dice(9), 1 + dice(6) * dice(2)};
    const bool cut = dice(2) == 0;  // pieces that fit, or pieces that need not
    std::vector<Slice> pieces = test::cut_in_pieces(extent, dice);
    if (!cut) pieces.push_back(random_slice(extent, dice));
    if (dice(3) == 0) pieces.erase(pieces.begin() + dice(static_cast<std::int64_t>(pieces.size())));
    const Slice wanted = dice(3) == 0 ? golem::whole_slice(extent) : random_slice(extent, dice);

    std::map<std::int64_t, std::vector<std::ptrdiff_t>> holders;
    for (const std::int64_t element : elements_of(wanted, extent)) holders[element];
    for (std::size_t piece = 0; piece < pieces.size(); ++piece)
      for (const std::int64_t element : elements_of(pieces[piece], extent))
        if (holders.contains(element)) holders[element].push_back(static_cast<std::ptrdiff_t>(piece));
    std::int64_t missing = 0;
    std::set<std::pair<std::ptrdiff_t, std::ptrdiff_t>> twice;
    for (const auto& [element, list] : holders) {
      missing += list.empty();
      for (std::size_t k = 1; k < list.size(); ++k) twice.emplace(list[k - 1], list[k]);
    }
    const golem::SliceCover cover = golem::cover_of(wanted, pieces);
    REQUIRE((cover.first >= 0) == !twice.empty());
    if (!twice.empty()) REQUIRE(twice.contains({cover.first, cover.second}));
    if (twice.empty()) REQUIRE(cover.missing == missing);
    REQUIRE(cover.once() == (twice.empty() && missing == 0));
    ++seen[!twice.empty() ? "twice" : missing ? "missing" : "once"];
  }
  CHECK(seen["twice"] > 1000);
  CHECK(seen["missing"] > 1000);
  CHECK(seen["once"] > 1000);
}

TEST_CASE("a slice is the whole tensor only in the tensor's own order") {
  const MatrixExtent extent{6, 5};
  CHECK(golem::is_whole(golem::whole_slice(extent), extent));
  CHECK(golem::is_whole({{{0, 2}, {2, 4}}, {0, 5}, {0, 30}}, extent));
  CHECK(!golem::is_whole({{{2, 4}, {0, 2}}, {0, 5}, {0, 30}}, extent));
  CHECK(!golem::is_whole({{{0, 6}, {}}, {0, 5}, {0, 29}}, extent));
  CHECK(!golem::is_whole({{{0, 6}, {}}, {1, 4}, {0, 24}}, extent));
}

TEST_CASE("a slice that leaves its tensor is refused, whatever its numbers") {
  constexpr std::int64_t most = INT64_MAX;
  const MatrixExtent extent{6, 5};
  CHECK(has(error_of({{{0, 7}, {}}, {0, 5}, {0, 1}}, extent), "w: its slice has rows beyond the 6"));
  CHECK(has(error_of({{{0, 1}, {most, most}}, {0, 5}, {0, 1}}, extent), "rows beyond"));
  CHECK(has(error_of({{{-1, 2}, {}}, {0, 5}, {0, 1}}, extent), "rows beyond"));
  CHECK(has(error_of({{{0, 3}, {2, 2}}, {0, 5}, {0, 1}}, extent), "overlap"));
  CHECK(has(error_of({{{0, 3}, {}}, {1, 5}, {0, 1}}, extent), "columns beyond the 5"));
  CHECK(has(error_of({{{0, 3}, {}}, {0, 5}, {0, 16}}, extent), "elements beyond the 15"));
  CHECK(has(error_of({{{0, 3}, {}}, {0, 5}, {1, most}}, extent), "elements beyond"));
  CHECK(has(error_of({{{0, 3}, {}}, {0, 5}, {0, -1}}, extent), "elements beyond"));
  CHECK(error_of({}, extent) == "no error");
  CHECK(error_of({{{4, 2}, {0, 2}}, {0, 5}, {19, 1}}, extent) == "no error");

  CHECK(golem::matrix_extent({}, "w").size() == 1);
  CHECK(golem::matrix_extent({7}, "w").rows == 7);
  CHECK(golem::matrix_extent({3, 4, 5}, "w").columns == 20);
  for (const auto& shape : {std::vector<std::int64_t>{-1}, {4, -2}, {most, 2}, {2, most, most}})
    CHECK_THROWS_AS(golem::matrix_extent(shape, "w"), golem::Error);
}
