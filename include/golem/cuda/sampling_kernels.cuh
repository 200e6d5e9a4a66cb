// The kernels that choose a token: the likeliest, or the one that a random number falls on among those that top-k and top-p leave (spec 6.1).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/core/math.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

// Nothing is sorted. A logit becomes an integer, its order. Its probability becomes one too, a weight in units of a small part of
// the largest, so that sums are the same in whichever order they are made: on every run, and on every tensor rank. The order at
// which all larger ones come to some sum lies in a range; blocks sum up what lies in each of 2048 parts of it, the last block keeps
// the part that the order is in, and so on until it is a single one.

/// Integers that compare as their floats do; -0 is 0.
__device__ inline std::uint32_t order_of(float x) {
  const auto bits = bits_as<std::uint32_t>(x + 0.0f);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ inline float in_order(std::uint32_t order) { return bits_as<float>(order >> 31 ? order & 0x7fffffffu : ~order); }

inline constexpr std::uint32_t no_number = 0xffffffffu;  // the order of a logit that is NaN or infinite

inline constexpr int sampling_threads = 256, range_part_bits = 11, range_parts = 1 << range_part_bits;

/// What lies in each part of a range.
struct RangeParts {
  std::uint64_t weight[range_parts];
  std::uint32_t count[range_parts];
};

/// What the kernels of a choice tell each other. All is 0 at its start.
struct ChoiceState {
  std::uint32_t before;     // the largest order, banned tokens included
  std::uint64_t likeliest;  // the largest order, and ~ of its first token
  std::uint32_t least;      // no smaller order is left by top-k and top-p
  std::uint64_t kept;       // what all that they leave weigh
  std::uint32_t drawn;      // the order of the token that is drawn
  bool keeps_all;           // top-p does

  std::uint32_t low, high;                  // what is looked for is one of these
  std::uint64_t weight_above, count_above;  // of all above `high`
  std::uint64_t limit;                      // what is looked for is the smallest above which no more than this lies
  RangeParts parts;
  std::uint32_t arrived;  // blocks that have added theirs

  __device__ std::uint32_t most() const { return static_cast<std::uint32_t>(likeliest >> 32); }
  __device__ void look_for(std::uint32_t from, std::uint32_t to, std::uint64_t most_above) { low = from, high = to, weight_above = count_above = 0, limit = most_above; }
  /// `uniform` is below 1, and so the limit below `kept`.
  __device__ void look_for_drawn(double uniform) { look_for(least, most(), static_cast<std::uint64_t>(uniform * static_cast<double>(kept))); }
};

/// Probabilities in units of the largest one's part.
struct Weights {
  double largest;  // logit
  double parts;    // that the largest probability has

  __device__ std::uint64_t operator()(std::uint32_t order) const { return static_cast<std::uint64_t>(exponential(static_cast<double>(in_order(order)) - largest) * parts); }
};

/// orders (V) of logits / temperature.
template <class A>
__global__ void __launch_bounds__(sampling_threads) order_logits_kernel(std::uint32_t* orders, ChoiceState* state, const A* logits, float temperature, std::int64_t count) {
  ptx::begin_kernel();
  constexpr float infinity = bits_as<float>(0x7f800000u);
  std::uint32_t most = 0;
  for (std::int64_t v = first_item(); v < count; v += item_step()) {
    const auto logit = static_cast<float>(logits[v]);
    orders[v] = logit < infinity ? order_of(logit / temperature) : no_number;
    most = larger(most, orders[v]);
  }
  most = block_max(most, dynamic_shared<std::uint32_t>());
  if (threadIdx.x == 0) ptx::atomic_max(&state->before, most);
}

/// The order below all numbers.
__device__ inline std::uint32_t never() { return order_of(bits_as<float>(0xff800000u)); }

template <int Threads>
__global__ void __launch_bounds__(Threads) ban_tokens_kernel(std::uint32_t* orders, const std::int32_t* banned, std::int64_t count) {
  ptx::begin_kernel();
  for (std::int64_t i = first_item(); i < count; i += item_step()) orders[banned[i]] = never();
}

/// Refuses what is no number, chooses the first of the largest logits, and begins to look for those that top-k leaves.
template <int Threads>
__global__ void __launch_bounds__(Threads) choose_likeliest_kernel(ChosenToken* chosen, ChoiceState* state, const std::uint32_t* orders, TokenChoice choice, std::int64_t count) {
  ptx::begin_kernel();
  auto* const shared = dynamic_shared<std::uint64_t>();
  std::uint64_t likeliest = 0;
  for (std::int64_t v = first_item(); v < count; v += item_step()) likeliest = larger(likeliest, std::uint64_t{orders[v]} << 32 | static_cast<std::uint32_t>(~v));
  likeliest = block_max(likeliest, shared);
  if (threadIdx.x == 0) ptx::atomic_max(&state->likeliest, likeliest);
  if (!is_last_block(&state->arrived, reinterpret_cast<std::uint32_t*>(shared)) || threadIdx.x != 0) return;
  using Status = ChosenToken::Status;
  const bool infinite = state->before >= order_of(bits_as<float>(0x7f800000u)) || state->before <= never();
  *chosen = {static_cast<std::int32_t>(~static_cast<std::uint32_t>(state->likeliest)),
             state->before == no_number ? Status::no_number : infinite ? Status::too_cold : state->most() <= never() ? Status::none_left : Status::chosen};
  const std::uint64_t kept = choice.top_k > 0 && choice.top_k < count ? choice.top_k : count;
  state->look_for(0, state->most(), kept - 1);
}

/// What is looked for: the smallest order of the top_k largest, of those that top_p leaves, of the token that is drawn; and that token among equal ones.
enum class Search { top_k, top_p, drawn, token };

/// What was found: the order `low`, beside what is above it what `weight` and `count` are of its own. Begins the next search.
template <Search S>
__device__ void found(ChoiceState& state, ChosenToken& chosen, const TokenChoice& choice, const Weights& weights, std::uint64_t weight, std::uint64_t count, std::int64_t vocabulary) {
  const std::uint32_t order = state.low;
  if constexpr (S == Search::top_k) {
    state.least = order, state.kept = state.weight_above + weight;
    const auto limit = static_cast<std::uint64_t>(static_cast<double>(choice.top_p) * static_cast<double>(state.kept));
    state.keeps_all = choice.top_p <= 0 || limit >= state.kept;
    if (state.keeps_all) return state.look_for_drawn(choice.uniform);
    state.look_for(order, state.most(), limit);
  } else if constexpr (S == Search::token) {
    chosen.token = static_cast<std::int32_t>(vocabulary - 1 - order);
  } else {  // of equal ones, the limit falls on one
    const std::uint64_t each = weights(order), rank = smaller((state.limit - state.weight_above) / each, count - 1);
    if constexpr (S == Search::top_p) {
      state.least = order, state.kept = state.weight_above + (rank + 1) * each;
      state.look_for_drawn(choice.uniform);
    } else {
      state.drawn = order;
      state.look_for(0, static_cast<std::uint32_t>(vocabulary - 1), rank);
    }
  }
}

/// A round of a search, of which `rounds_left` follow. Among equal logits, tokens are looked for from the last one down, which the first is above.
template <Search S>
__global__ void __launch_bounds__(sampling_threads) narrow_kernel(ChosenToken* chosen, ChoiceState* state, const std::uint32_t* orders, TokenChoice choice, double weight_parts, int rounds_left,
                                                                  std::int64_t count) {
  ptx::begin_kernel();
  if (chosen->status != ChosenToken::Status::chosen || (S == Search::top_p && state->keeps_all)) return;
  auto& parts = *dynamic_shared<RangeParts>();
  const Weights weights{in_order(state->most()), weight_parts};
  const std::uint32_t low = state->low, high = state->high, drawn = state->drawn;
  const std::uint64_t limit = state->limit;
  int width = 0;  // of a part, as a power of two
  while ((high - low) >> width >= range_parts) ++width;
  for (int i = static_cast<int>(threadIdx.x); i < range_parts; i += sampling_threads) parts.weight[i] = 0, parts.count[i] = 0;
  __syncthreads();
  for (std::int64_t v = first_item(); v < count; v += item_step()) {
    const std::uint32_t order = orders[v], key = S != Search::token ? order : order == drawn ? static_cast<std::uint32_t>(count - 1 - v) : no_number;
    if (key < low || key > high) continue;
    ptx::atomic_add(&parts.count[(key - low) >> width], std::uint32_t{1});
    if (S != Search::token) ptx::atomic_add(&parts.weight[(key - low) >> width], weights(order));
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < range_parts; i += sampling_threads)
    if (parts.count[i] > 0) {
      ptx::atomic_add(&state->parts.count[i], parts.count[i]);
      if (S != Search::token) ptx::atomic_add(&state->parts.weight[i], parts.weight[i]);
    }
  if (!is_last_block(&state->arrived, parts.count)) return;

  constexpr int each = range_parts / sampling_threads;
  const int top = range_parts - 1 - each * static_cast<int>(threadIdx.x);  // parts top, top - 1, .. are this thread's
  std::uint64_t weight[each], number[each], own_weight = 0, own_number = 0;
#pragma unroll
  for (int i = 0; i < each; ++i) {
    weight[i] = state->parts.weight[top - i], number[i] = state->parts.count[top - i];
    own_weight += weight[i], own_number += number[i];
    state->parts.weight[top - i] = 0, state->parts.count[top - i] = 0;
  }
  constexpr bool by_weight = S == Search::top_p || S == Search::drawn;
  std::uint64_t weight_above = state->weight_above, count_above = state->count_above;
  weight_above += block_sum_before(own_weight, parts.weight), count_above += block_sum_before(own_number, parts.weight);
#pragma unroll
  for (int i = 0; i < each; ++i) {
    const std::uint64_t above = by_weight ? weight_above : count_above;
    weight_above += weight[i], count_above += number[i];
    const std::uint64_t with = by_weight ? weight_above : count_above;
    if (above > limit || with <= limit) continue;  // one part is neither, since all together are more than the limit
    state->weight_above = weight_above - weight[i], state->count_above = count_above - number[i];
    state->low = low + (static_cast<std::uint32_t>(top - i) << width);
    state->high = smaller(high, state->low + ((1u << width) - 1));
    if (rounds_left == 0) found<S>(*state, *chosen, choice, weights, weight[i], number[i], count);
  }
}

}  // namespace golem::cuda
