// Attention: forward, backward, and to a key-value cache, with GLM's prefix masks, and never a T x T matrix.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/core/op_arguments.hpp"
#include "golem/cpu/attention_backward.hpp"
#include "golem/cpu/attention_cached.hpp"
#include "golem/cpu/attention_forward.hpp"
#include "golem/cpu/attention_stepwise.hpp"
#include "golem/cpu/device.hpp"

namespace golem::cpu {

/// Of a query head's q (0), or the k (1) or v (2) that it attends to, in qkv (N, G, S + 2, D): the rows from token `token` on.
template <class T>
HeadRows<T> rows_of(const View<T, 4>& qkv, int part, std::int64_t token, std::int64_t head) {
  const std::int64_t sharers = qkv.extent(2) - 2;
  return {&qkv(token, head / sharers, part == 0 ? head % sharers : sharers + part - 1, 0), qkv.extent(1) * qkv.extent(2) * qkv.extent(3)};
}
/// The same in a tensor (N, H, D).
template <class T>
HeadRows<T> rows_of(const View<T, 3>& out, std::int64_t token, std::int64_t head) {
  return {&out(token, head, 0), out.extent(1) * out.extent(2)};
}

/// Where masks of dropout begin for a head of a row, whose queries are `tokens` apart, on whatever rank each is.
struct MaskPlace {
  std::int64_t heads, tokens;
  const AttentionOptions& options;

  MaskPlace(const AttentionOptions& options, std::int64_t heads, std::int64_t length)
      : heads(options.heads ? options.heads : heads), tokens(options.tokens ? options.tokens : length), options(options) {}
  std::uint64_t element(std::int64_t row, std::int64_t head, std::int64_t query) const {
    return static_cast<std::uint64_t>(((row * heads + options.first_head + head) * tokens + query) * tokens);
  }
};

/// Each query's softmax-weighted mean of the values of its window: out (N, H, D) from rotated qkv (N, G, S + 2, D) of `rows`
/// rows of T = N / rows tokens. log_sum (B, H, T), where given, keeps the log-sum-exp of each query's scores for the backward.
/// A query outside every window gets zeros (spec 1.5, 2.3, 2.5), or, where rounding is stepwise, the mean of all values.
template <class T>
void attend(Device& device, View<T, 3> out, std::type_identity_t<View<accumulate_t<T>, 3>> log_sum, std::type_identity_t<View<const T, 4>> qkv,
            int rows, const WindowList& windows, const AttentionOptions& options) {
  const std::int64_t tokens = qkv.extent(0), heads = query_heads(qkv), dims = qkv.extent(3);
  require(rows > 0 && tokens % rows == 0 && windows.first.extent(0) == rows + 1, "attend was given ", tokens, " tokens in ", rows,
          " rows, and windows for ", windows.first.extent(0) - 1, ": give rows of equal length, and first[0] .. first[rows]");
  require(out.size() == tokens * heads * dims, "attend writes ", shape_of(out), " from qkv of shape ", shape_of(qkv), ": give (N, H, D) and (N, G, S + 2, D)");
  require(options.dropout == 0 || options.rounding == Rounding::once, "attend was asked to drop probabilities and to round as the original's inference does: give a dropout of 0");
  const std::int64_t length = tokens / rows, groups = ceil_div(length, group_queries);
  require(!log_sum || log_sum.size() == tokens * heads, "attend saves log-sum-exps to ", shape_of(log_sum), ": give (B, H, T), ", tokens * heads,
          " elements");
  const MaskPlace masks(options, heads, length);
  device.parallel_uneven(rows * heads * groups, [&](std::int64_t piece) {
    const std::int64_t row = piece / groups / heads, head = piece / groups % heads;
    const std::int64_t query = (groups - 1 - piece % groups) * group_queries, token = row * length + query;  // long ones first
    QueryGroup<T> group{.out = rows_of(out, token, head),
                        .log_sum = log_sum ? &log_sum(row, head, query) : nullptr,
                        .queries = rows_of(qkv, 0, token, head),
                        .keys = rows_of(qkv, 1, row * length, head),
                        .values = rows_of(qkv, 2, row * length, head),
                        .dims = dims,
                        .count = smaller(group_queries, length - query),
                        .key_count = length,
                        .first_element = masks.element(row, head, query),
                        .element_step = static_cast<std::uint64_t>(masks.tokens)};
    for (std::int64_t first = 0; first < group.count; first += tile_queries)
      find_visible_keys(group.visible[first / tile_queries], windows, row, query + first, group.count - first);
    if (options.rounding == Rounding::stepwise) attend_stepwise(device, group, options);
    else attend_group(device, group, options);
  });
}

/// dqkv (N, G, S + 2, D) from dout (N, H, D), what `attend` wrote, and what it was given; overwrites dqkv. Threads share rows
/// and key heads: the S heads that share one are of one thread.
template <class T>
void attend_backward(Device& device, View<T, 4> dqkv, std::type_identity_t<View<const T, 3>> dout, std::type_identity_t<View<const T, 3>> out,
                     std::type_identity_t<View<const accumulate_t<T>, 3>> log_sum, std::type_identity_t<View<const T, 4>> qkv, int rows,
                     const WindowList& windows, const AttentionOptions& options) {
  const std::int64_t tokens = qkv.extent(0), heads = query_heads(qkv), dims = qkv.extent(3);
  require(rows > 0 && tokens % rows == 0 && windows.first.extent(0) == rows + 1, "attend_backward was given ", tokens, " tokens in ", rows,
          " rows, and windows for ", windows.first.extent(0) - 1, ": give rows of equal length, and first[0] .. first[rows]");
  require(dqkv.size() == qkv.size() && out.size() == tokens * heads * dims && dout.size() == out.size() && log_sum.size() == tokens * heads,
          "attend_backward was given dqkv ", shape_of(dqkv), ", dout ", shape_of(dout), ", out ", shape_of(out), ", log-sum-exps ", shape_of(log_sum),
          " and qkv ", shape_of(qkv), ": give (N, G, S + 2, D), (N, H, D) twice, (B, H, T) and (N, G, S + 2, D)");
  const std::int64_t length = tokens / rows, key_heads = qkv.extent(1), sharers = heads / key_heads;
  const MaskPlace masks(options, heads, length);
  device.parallel_uneven(length > 0 ? rows * key_heads : 0, [&](std::int64_t piece) {
    const std::int64_t row = piece / key_heads, head = piece % key_heads * sharers, token = row * length;
    attend_head_backward(device,
                         HeadGradient<T>{.dqueries = rows_of(dqkv, 0, token, head),
                                         .dkeys = rows_of(dqkv, 1, token, head),
                                         .dvalues = rows_of(dqkv, 2, token, head),
                                         .dout = rows_of(dout, token, head),
                                         .out = rows_of(out, token, head),
                                         .queries = rows_of(qkv, 0, token, head),
                                         .keys = rows_of(qkv, 1, token, head),
                                         .values = rows_of(qkv, 2, token, head),
                                         .log_sum = &log_sum(row, head, 0),
                                         .length = length,
                                         .dims = dims,
                                         .row = row,
                                         .sharers = sharers,
                                         .first_element = masks.element(row, head, 0),
                                         .element_step = static_cast<std::uint64_t>(masks.tokens)},
                         windows, options);
  });
}

/// New tokens of each sequence attend to its cache, which holds their own keys and values already (`rotate_into_cache`): token i
/// sees token j where j <= i or j < prefix. `options.dropout` is not used. Sequences of a few new tokens stream the cache,
/// longer ones take it in tiles.
template <class T>
void attend_cached(Device& device, View<T, 3> out, std::type_identity_t<View<const T, 4>> qkv, std::type_identity_t<View<const T, 4>> keys,
                   std::type_identity_t<View<const T, 4>> values, View<const CachedSequence, 1> sequences, const AttentionOptions& options) {
  constexpr std::int64_t few_tokens = 4;
  const std::int64_t heads = query_heads(qkv), dims = qkv.extent(3), sharers = qkv.extent(2) - 2;
  require(keys.extent(1) == qkv.extent(1) && keys.extent(3) == dims && keys.size() == values.size() && out.size() == qkv.extent(0) * heads * dims,
          "attend_cached was given qkv ", shape_of(qkv), ", keys ", shape_of(keys), ", values ", shape_of(values), " and out ", shape_of(out),
          ": give (N, G, S + 2, D), (slots, G, capacity, D) twice, and (N, H, D)");
  AttentionOptions inference = options;
  inference.dropout = 0;
  std::int64_t longest = 0;
  for (std::int64_t s = 0; s < sequences.extent(0); ++s) longest = larger<std::int64_t>(longest, sequences(s).count);
  const std::int64_t groups = ceil_div(longest, group_queries);
  device.parallel_uneven(sequences.extent(0) * heads * groups, [&](std::int64_t piece) {
    const CachedSequence& sequence = sequences(piece / groups / heads);
    const std::int64_t head = piece / groups % heads, query = (groups - 1 - piece % groups) * group_queries;
    if (query >= sequence.count) return;
    QueryGroup<T> group{.out = rows_of(out, sequence.row + query, head),
                        .queries = rows_of(qkv, 0, sequence.row + query, head),
                        .keys = {&keys(sequence.slot, head / sharers, 0, 0), dims},
                        .values = {&values(sequence.slot, head / sharers, 0, 0), dims},
                        .dims = dims,
                        .count = smaller(group_queries, sequence.count - query),
                        .key_count = sequence.first + sequence.count};
    for (std::int64_t first = 0; first < group.count; first += tile_queries)
      find_visible_keys(group.visible[first / tile_queries], sequence, query + first, group.count - first);
    if (inference.rounding == Rounding::stepwise)
      attend_stepwise(device, group, inference);
    else if (sequence.count > few_tokens)
      attend_group(device, group, inference);
    else
      attend_singly(device, group, inference);
  });
}

}  // namespace golem::cpu
