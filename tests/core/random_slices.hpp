// Random slices of a tensor, and cuts of it in pieces, for the tests of slices and of checkpoints.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "golem/core/slice.hpp"

namespace test {

/// A small generator of whole numbers 0 .. sides-1, the same everywhere.
class SliceDice {
 public:
  explicit SliceDice(std::uint64_t seed) : state_(seed * 2 + 1) {}
  std::int64_t operator()(std::int64_t sides) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::int64_t>((state_ >> 33) % static_cast<std::uint64_t>(sides));
  }

 private:
  std::uint64_t state_;
};

/// The elements of a slice in the order of its memory, each as its index in the full tensor: one by one, by the definition.
inline std::vector<std::int64_t> elements_of(const golem::Slice& slice, const golem::MatrixExtent& extent) {
  std::vector<std::int64_t> all;
  for (const auto& run : slice.rows)
    for (std::int64_t row = run.begin; row < run.begin + run.count; ++row)
      for (std::int64_t column = 0; column < slice.columns.count; ++column) all.push_back(row * extent.columns + slice.columns.begin + column);
  if (slice.elements.count == 0) return {};
  return {all.begin() + slice.elements.begin, all.begin() + slice.elements.begin + slice.elements.count};
}

inline golem::Slice::Run random_run(std::int64_t length, SliceDice& dice) {
  const std::int64_t one = dice(length + 1), other = dice(length + 1);
  return {std::min(one, other), std::max(one, other) - std::min(one, other)};
}

inline golem::Slice random_slice(const golem::MatrixExtent& extent, SliceDice& dice) {
  golem::Slice slice;
  slice.rows[0] = dice(3) == 0 ? golem::Slice::Run{0, extent.rows} : random_run(extent.rows, dice);
  if (const std::int64_t rest = extent.rows - slice.rows[0].end(); dice(2) == 0 && rest > 0) {
    slice.rows[1] = random_run(rest, dice);
    slice.rows[1].begin += slice.rows[0].end();
    if (dice(4) == 0) std::swap(slice.rows[0], slice.rows[1]);
  }
  slice.columns = dice(2) == 0 ? golem::Slice::Run{0, extent.columns} : random_run(extent.columns, dice);
  slice.elements = dice(2) == 0 ? golem::Slice::Run{0, slice.outline()} : random_run(slice.outline(), dice);
  return slice;
}

/// Bounds of `count` runs that make 0 .. length-1, of about one size, or of any.
inline std::vector<golem::Slice::Run> cut_in_runs(std::int64_t length, std::int64_t count, SliceDice& dice) {
  std::vector<std::int64_t> ends;
  for (std::int64_t i = 1; i < count; ++i) ends.push_back(dice(length + 1));
  ends.push_back(length);
  std::sort(ends.begin(), ends.end());
  std::vector<golem::Slice::Run> runs;
  for (const std::int64_t end : ends) runs.push_back({runs.empty() ? 0 : runs.back().end(), 0}), runs.back().count = end - runs.back().begin;
  return runs;
}

/// Slices that make a tensor, each element once: by rows, by columns or by rows of both halves, as a random rule says, each again in runs of
/// elements.
inline std::vector<golem::Slice> cut_in_pieces(const golem::MatrixExtent& extent, SliceDice& dice) {
  std::vector<golem::Slice> shards, pieces;
  const std::int64_t rule = dice(3), ranks = 1 + dice(4);
  if (rule == 0)
    for (const auto& run : cut_in_runs(extent.rows, ranks, dice)) shards.push_back({{run, {}}, {0, extent.columns}, {}});
  if (rule == 1)
    for (const auto& run : cut_in_runs(extent.columns, ranks, dice)) shards.push_back({{{0, extent.rows}, {}}, run, {}});
  if (rule == 2) {
    const std::int64_t half = extent.rows / 2;
    const auto first = cut_in_runs(half, ranks, dice), second = cut_in_runs(extent.rows - half, ranks, dice);
    for (std::size_t i = 0; i < first.size(); ++i) shards.push_back({{first[i], {half + second[i].begin, second[i].count}}, {0, extent.columns}, {}});
  }
  for (const golem::Slice& shard : shards)
    for (const auto& run : cut_in_runs(shard.outline(), 1 + dice(3), dice)) {
      pieces.push_back(shard);
      pieces.back().elements = run;
    }
  return pieces;
}

}  // namespace test
