// Attention of one new token to a key-value cache: keys and values are streamed once for each query head, where they lie.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "golem/cpu/attention_forward.hpp"

namespace golem::cpu {

/// Keys that a single query meets at a time.
inline constexpr std::int64_t streamed_keys = 256;

/// One query of a head; it sees the first `count` rows of keys and values.
template <class T>
struct SingleQuery {
  using A = accumulate_t<T>;
  T* out;                  // (D)
  const A* query;          // (D), scaled
  A* sums;                 // (D), scratch
  const T *keys, *values;  // (count, D), contiguous
  std::int64_t count, dims;
  A scale;  // of the scores
};

struct AttendSingle {
  template <int width, class T>
  [[gnu::always_inline]] static inline void run(const SingleQuery<T>& q) {
    using A = accumulate_t<T>;
    using V = Lanes<A, width>;
    constexpr int n = lane_count<V>;
    alignas(64) A scores[streamed_keys];
    A maximum = std::numeric_limits<A>::lowest() / 2, total = 0;
    for (std::int64_t d = 0; d < q.dims; ++d) q.sums[d] = 0;
    for (std::int64_t first = 0; first < q.count; first += streamed_keys) {
      const std::int64_t keys = smaller(streamed_keys, q.count - first);
      const std::int64_t padded = round_up(keys, n);
      for (std::int64_t key = 0; key < padded; key += n) score_keys<V>(scores + key, q, first + key);
      for (std::int64_t key = keys; key < padded; ++key) scores[key] = -std::numeric_limits<A>::infinity();

      A top = maximum;
      for (std::int64_t key = 0; key < keys; ++key) top = scores[key] > top ? scores[key] : top;
      V sum{};
      for (std::int64_t key = 0; key < padded; key += n) {
        V p;
        load(p, scores + key);
        p -= top;
        exponentiate(p);
        sum += p;
        store(scores + key, p);
      }
      const A rescale = std::exp(maximum - top);
      maximum = top;
      total *= rescale;
      for (int i = 0; i < n; ++i) total += sum[i];
      add_values<V, 8>(q, first, keys, scores, rescale, 0);
    }
    for (std::int64_t d = 0; d < q.dims; ++d) q.out[d] = static_cast<T>(q.sums[d] / total);
  }

 private:
  /// As many scores as V has lanes, of the keys from `key` on; beyond the last key it is met again.
  template <class V, class T>
  [[gnu::always_inline]] static inline void score_keys(accumulate_t<T>* scores, const SingleQuery<T>& q, std::int64_t key) {
    using A = accumulate_t<T>;
    constexpr int n = lane_count<V>;
    const T* rows[n];
    V sums[n];
    for (int i = 0; i < n; ++i) rows[i] = q.keys + smaller(key + i, q.count - 1) * q.dims;
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) sums[i] = V{};
    std::int64_t d = 0;
    for (; d + n <= q.dims; d += n) {
      V x;
      load(x, q.query + d);
#pragma GCC unroll 16
      for (int i = 0; i < n; ++i) {
        V y;
        __builtin_prefetch(rows[i] + d + n * q.dims, 0, 2);
        load(y, rows[i] + d);
        sums[i] += x * y;
      }
    }
    transpose(sums);
#pragma GCC unroll 16
    for (int i = 1; i < n; ++i) sums[0] += sums[i];
    for (; d < q.dims; ++d)
      for (int i = 0; i < n; ++i) sums[0][i] += q.query[d] * static_cast<A>(rows[i][d]);
    sums[0] *= q.scale;
    store(scores, sums[0]);
  }

  template <class V, int vectors, class T>
  [[gnu::always_inline]] static inline void add_values(const SingleQuery<T>& q, std::int64_t first, std::int64_t keys, const accumulate_t<T>* p,
                                                       accumulate_t<T> rescale, std::int64_t d) {
    using A = accumulate_t<T>;
    constexpr int n = lane_count<V>;
    for (; d + vectors * n <= q.dims; d += vectors * n) {
      V sums[vectors];
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        load(sums[v], q.sums + d + v * n);
        sums[v] *= rescale;
      }
      const T* row = q.values + first * q.dims + d;
      for (std::int64_t key = 0; key < keys; ++key, row += q.dims) {
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) {
          V y;
          __builtin_prefetch(row + v * n + 16 * q.dims, 0, 2);
          load(y, row + v * n);
          sums[v] += p[key] * y;
        }
      }
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) store(q.sums + d + v * n, sums[v]);
    }
    if constexpr (vectors > 1) {
      add_values<V, vectors / 2>(q, first, keys, p, rescale, d);
    } else {
      for (; d < q.dims; ++d) {
        A sum = q.sums[d] * rescale;
        for (std::int64_t key = 0; key < keys; ++key) sum += p[key] * static_cast<A>(q.values[(first + key) * q.dims + d]);
        q.sums[d] = sum;
      }
    }
  }
};

/// The few queries of a group, one by one.
template <class T>
void attend_singly(Device& device, const QueryGroup<T>& group, const AttentionOptions& options) {
  using A = accumulate_t<T>;
  A* const query = device.scratch<A>(2 * group.dims);
  const A layer_scale = static_cast<A>(options.layer_scale);
  for (std::int64_t i = 0; i < group.count; ++i) {
    run_on<LoadRows>(device.isa(), RowsIn<T>{query, group.dims, group.queries[i], 0, 1, 1, group.dims, static_cast<A>(options.scale) / layer_scale});
    run_on<AttendSingle>(device.isa(), SingleQuery<T>{group.out[i], query, query + group.dims, group.keys.data, group.values.data,
                                                      group.visible[0].last[i], group.dims, layer_scale});
  }
}

}  // namespace golem::cpu
