// Which keys a block of queries sees: one or two intervals of integers for each query, and never a matrix (spec 2.3, 2.5, 7.2).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>

#include "golem/core/batch.hpp"
#include "golem/core/math.hpp"
#include "golem/core/op_arguments.hpp"

namespace golem::cpu {

/// Queries and keys meet in tiles of this many of each.
inline constexpr int tile_queries = 64, tile_keys = 64;

/// Where the mask cuts a tile, it is worked on in parts of this many keys, each without the first queries where those see none of it.
inline constexpr std::int64_t part_keys = 32;

/// Lane i sees the keys [first[i], last[i]), which may be none. A prefix makes its rows wider, never ragged, so that one
/// interval a query holds every mask of training and generation; the choices of a packed row have a context before it as well.
template <class Integer>
struct VisibleKeys {
  alignas(64) Integer first[tile_queries];
  alignas(64) Integer last[tile_queries];
  alignas(64) Integer context_first[tile_queries];
  alignas(64) Integer context_last[tile_queries];
  bool context = false;                        // whether any lane has one; only then are the two above filled
  std::int64_t some_first = 0, some_last = 0;  // outside of these no lane sees a key
  std::int64_t all_first = 0, all_last = 0;    // between these every lane sees every key
  std::int64_t context_all_first = 0, context_all_last = 0;  // and between these

  /// Repeats lane count - 1 in the lanes that hold no query, and finds the bounds of them all.
  void finish(int count) {
    some_first = all_last = context_all_last = std::numeric_limits<std::int64_t>::max();
    some_last = all_first = context_all_first = 0;
    for (int i = 0; i < count; ++i) {
      all_first = larger<std::int64_t>(all_first, first[i]);
      all_last = smaller<std::int64_t>(all_last, last[i]);
      include(first[i], last[i]);
      if (!context) continue;
      context_all_first = larger<std::int64_t>(context_all_first, context_first[i]);
      context_all_last = smaller<std::int64_t>(context_all_last, context_last[i]);
      include(context_first[i], context_last[i]);
    }
    for (int i = count; i < tile_queries; ++i) {
      first[i] = first[count - 1], last[i] = last[count - 1];
      if (context) context_first[i] = context_first[count - 1], context_last[i] = context_last[count - 1];
    }
  }
  void include(std::int64_t begin, std::int64_t end) {
    if (begin == end) return;
    some_first = smaller(some_first, begin);
    some_last = larger(some_last, end);
  }
  /// The lanes before this one, a multiple of part_keys, see no key from `key` on. A context ends before its window does.
  std::int64_t first_lane(std::int64_t key) const {
    std::int64_t lane = 0;
    while (lane < tile_queries && last[lane] <= key) ++lane;
    return lane / part_keys * part_keys;
  }
  /// What a tile hides by: null where the lanes have no context.
  const Integer* contexts_first() const { return context ? context_first : nullptr; }
  const Integer* contexts_last() const { return context ? context_last : nullptr; }
  bool see_some(std::int64_t key, std::int64_t keys) const { return key < some_last && key + keys > some_first; }
  bool see_all(std::int64_t key, std::int64_t keys) const {
    return (key >= all_first && key + keys <= all_last) || (context && key >= context_all_first && key + keys <= context_all_last);
  }
};

/// For the first 64 of the `count` tokens from `token` on of row `row`.
template <class Integer>
void find_visible_keys(VisibleKeys<Integer>& visible, const WindowList& windows, std::int64_t row, std::int64_t token, std::int64_t count) {
  count = smaller<std::int64_t>(count, tile_queries);
  const std::int32_t end = windows.first(row + 1);
  std::int32_t w = windows.first(row);
  visible.context = false;
  for (int i = 0; i < count; ++i) {
    const auto t = static_cast<std::int32_t>(token + i);
    while (w < end && windows.all(w).end <= t) ++w;
    const Window window = w < end && windows.all(w).begin <= t ? windows.all(w) : Window{};
    visible.first[i] = window.begin;
    visible.last[i] = window.end == 0 ? 0 : smaller(window.end, larger(t + 1, window.begin + window.prefix));
    visible.context_first[i] = window.context_begin;
    visible.context_last[i] = window.context_end;
    visible.context = visible.context || window.context_begin < window.context_end;
  }
  visible.finish(static_cast<int>(count));
}

/// For the first 64 of the `count` new tokens from the sequence's new token `token` on.
template <class Integer>
void find_visible_keys(VisibleKeys<Integer>& visible, const CachedSequence& sequence, std::int64_t token, std::int64_t count) {
  count = smaller<std::int64_t>(count, tile_queries);
  visible.context = false;
  for (int i = 0; i < count; ++i) {
    const auto t = static_cast<std::int32_t>(sequence.first + token + i);
    visible.first[i] = 0;
    visible.last[i] = smaller(sequence.first + sequence.count, larger(t + 1, sequence.prefix));
  }
  visible.finish(static_cast<int>(count));
}

}  // namespace golem::cpu
