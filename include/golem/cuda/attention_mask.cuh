// Which keys each query sees, as one or two intervals of integers, and never a matrix (spec 2.3, 2.5, 7.2); and which probabilities dropout keeps.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/core/buffer.hpp"
#include "golem/core/math.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/cuda/dropout.cuh"
#include "golem/cuda/launch.hpp"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

/// Queries that share one summary of what they see.
inline constexpr int tile_queries = 64;

/// A query sees the keys [first, last), first <= last, and those of its context before them; either may be none. A prefix makes this wider, never
/// ragged: the one interval holds every mask of training and generation, the two those of packed choices (spec 7.2).
struct KeyRange {
  std::int32_t first = 0, last = 0, context_first = 0, context_last = 0;

  /// Without a branch, which would cost more than the rest of a tile.
  GOLEM_HD bool sees(int key) const { return (within(key, first, last) | within(key, context_first, context_last)) != 0; }
  GOLEM_HD static int within(int key, int from, int to) { return static_cast<unsigned>(key - from) < static_cast<unsigned>(to - from); }
  /// The two intervals as [begin(i), end(i)), ascending.
  GOLEM_HD int begin(int i) const { return i ? first : context_first; }
  GOLEM_HD int end(int i) const { return i ? last : context_last; }
};

/// Of 64 queries: outside of [some_first, some_last) none sees a key, inside [all_first, all_last) each sees all.
struct TileKeys {
  std::int32_t some_first, some_last, all_first, all_last;

  GOLEM_HD bool see_some(int key, int keys) const { return key < some_last && key + keys > some_first; }
  GOLEM_HD bool see_all(int key, int keys) const { return key >= all_first && key + keys <= all_last; }
};

/// What the mask kernel leaves in the workspace for the others.
struct Visible {
  View<KeyRange, 2> ranges;  // (B, T)
  View<TileKeys, 2> tiles;   // (B, ceil(T / 64))

  Visible(Arena& arena, std::int64_t rows, std::int64_t length)
      : ranges(arena.take<KeyRange>(rows, length)), tiles(arena.take<TileKeys>(rows, ceil_div(length, std::int64_t{tile_queries}))) {}
};

/// A block takes 64 queries of a row. The type is there because kernels in headers are templates.
template <class Integer>
__global__ void __launch_bounds__(tile_queries) visible_keys_kernel(KeyRange* ranges, TileKeys* tiles, const Window* windows, const std::int32_t* first_window, Integer length) {
  ptx::begin_kernel();
  constexpr Integer far = 0x7fffffff;
  Integer* shared = dynamic_shared<Integer>();  // 4 of each of two warps
  const Integer row = static_cast<Integer>(blockIdx.y), t = static_cast<Integer>(blockIdx.x * tile_queries + threadIdx.x);
  KeyRange range;
  if (t < length) {
    Integer low = first_window[row], high = first_window[row + 1];  // the last window that begins at or before t
    while (low < high) {
      const Integer middle = (low + high) / 2;
      if (windows[middle].begin <= t) low = middle + 1;
      else high = middle;
    }
    if (low > first_window[row] && windows[low - 1].end > t) {
      const Window window = windows[low - 1];
      const Integer seen = t + 1 > window.begin + window.prefix ? t + 1 : window.begin + window.prefix;
      range = {window.begin, seen < window.end ? seen : window.end};
      if (window.context_begin < window.context_end) range.context_first = window.context_begin, range.context_last = window.context_end;
    }
    ranges[row * length + t] = range;
  }
  const bool here = t < length, some = range.first < range.last, context = range.context_first < range.context_last;
  Integer* mine = shared + threadIdx.x / 32 * 4;
  const Integer some_first = -warp_max(context ? -range.context_first : some ? -range.first : -far), some_last = warp_max(some ? range.last : 0);
  const Integer all_first = warp_max(here ? range.first : 0), all_last = -warp_max(here ? -range.last : -far);
  if (ptx::lane() == 0) mine[0] = some_first, mine[1] = some_last, mine[2] = all_first, mine[3] = all_last;
  __syncthreads();
  if (threadIdx.x != 0) return;
  const Integer* a = shared;
  const Integer* b = shared + 4;
  tiles[row * gridDim.x + blockIdx.x] = {a[0] < b[0] ? a[0] : b[0], a[1] > b[1] ? a[1] : b[1], a[2] > b[2] ? a[2] : b[2], a[3] < b[3] ? a[3] : b[3]};
}

inline void find_visible_keys(Device& device, const Visible& visible, const WindowList& windows) {
  launch(device, {.name = "visible_keys", .early = true, .blocks = visible.tiles.extent(1), .threads = tile_queries, .shared_bytes = 8 * sizeof(std::int32_t), .blocks_y = visible.tiles.extent(0)},
         visible_keys_kernel<std::int32_t>, visible.ranges.data, visible.tiles.data, windows.all.data, windows.first.data, static_cast<std::int32_t>(visible.ranges.extent(1)));
}

/// Probability e = ((b * H + h) * T + i) * T + j is kept where half-word e % 8 of block e / 8 is at least rate * 65536;
/// what is kept is multiplied by 1 / (1 - rate). The backward asks again and gets the same.
template <class A>
struct ProbabilityDropout {
  Random random{};
  std::uint32_t threshold = 0;  // 0: all are kept
  A kept = 1;

  GOLEM_HD A factor(std::uint64_t element) const { return half_word(random.bits(element / 8), static_cast<int>(element % 8)) >= threshold ? kept : A{0}; }
  /// Of two neighbours, in one draw where they share it.
  GOLEM_HD void factors(A (&out)[2], std::uint64_t element) const {
    const Bits4 bits = random.bits(element / 8);
    const int i = static_cast<int>(element % 8);
    out[0] = half_word(bits, i) >= threshold ? kept : A{0};
    out[1] = i < 7 ? half_word(bits, i + 1) >= threshold ? kept : A{0} : factor(element + 1);
  }
};

template <class A>
ProbabilityDropout<A> probability_dropout(const AttentionOptions& options) {
  return {options.random, dropout_threshold(options.dropout), static_cast<A>(1 / (1 - options.dropout))};
}

}  // namespace golem::cuda
