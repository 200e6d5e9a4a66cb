// Choosing a token from logits on the GPU: greedy, temperature, top-k, top-p, as infer/sampling.hpp does on the host (spec 6.1).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "golem/core/buffer.hpp"
#include "golem/core/math.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

// Nothing is sorted. A logit becomes an integer in the order of logits; the logit at which the probabilities of all larger ones
// come to some sum is found by cutting the range of these integers in eight, again and again. Sums have a fixed order, so that
// tensor ranks and repeated runs choose the same.

/// Integers that compare as their floats do; -0 is 0.
__device__ inline std::uint32_t order_of(float x) {
  const auto bits = bits_as<std::uint32_t>(x + 0.0f);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ inline float in_order(std::uint32_t order) { return bits_as<float>(order >> 31 ? order & 0x7fffffffu : ~order); }

inline constexpr std::uint32_t no_number = 0xffffffffu;  // the order of a logit that is NaN or infinite

/// The largest and the smallest logit that may be chosen.
struct LogitRange {
  std::uint32_t largest, smallest;
};

/// orders (V) of logits / temperature.
template <class A>
__global__ void __launch_bounds__(256) order_logits_kernel(std::uint32_t* orders, const A* logits, float temperature, std::int64_t count) {
  constexpr float infinity = bits_as<float>(0x7f800000u);
  for (std::int64_t v = first_item(); v < count; v += item_step()) {
    const auto logit = static_cast<float>(logits[v]);
    orders[v] = logit < infinity ? order_of(logit / temperature) : no_number;
  }
}

/// One block: refuses what is no number, bans tokens, and chooses the first of the largest logits.
template <int Threads>
__global__ void __launch_bounds__(Threads) choose_largest_kernel(ChosenToken* chosen, LogitRange* range, std::uint32_t* orders, const std::int32_t* banned, std::int64_t banned_count,
                                                              std::int64_t count) {
  auto* shared = dynamic_shared<std::uint32_t>();
  const auto largest = [&](auto key) {
    std::uint32_t most = 0;
    for (std::int64_t v = threadIdx.x; v < count; v += blockDim.x) most = larger(most, key(v));
    return block_max(most, shared);
  };
  const std::uint32_t before = largest([&](std::int64_t v) { return orders[v]; });
  const std::uint32_t never = order_of(bits_as<float>(0xff800000u));  // -infinity
  const bool infinite = before >= order_of(bits_as<float>(0x7f800000u)) || before <= never;
  for (std::int64_t i = threadIdx.x; i < banned_count; i += blockDim.x) orders[banned[i]] = never;
  __syncthreads();
  const std::uint32_t most = largest([&](std::int64_t v) { return orders[v]; }), least = ~largest([&](std::int64_t v) { return orders[v] > never ? ~orders[v] : 0u; });
  const std::uint32_t first = ~largest([&](std::int64_t v) { return orders[v] == most ? ~static_cast<std::uint32_t>(v) : 0u; });
  if (threadIdx.x != 0) return;
  using Status = ChosenToken::Status;
  *chosen = {static_cast<std::int32_t>(first), before == no_number ? Status::no_number : infinite ? Status::too_cold : most <= never ? Status::none_left : Status::chosen};
  *range = {most, least};
}

/// weights (V): probabilities in units of the largest.
template <int Threads>
__global__ void __launch_bounds__(Threads) weigh_logits_kernel(double* weights, const std::uint32_t* orders, const LogitRange* range, std::int64_t count) {
  const double largest = in_order(range->largest);
  for (std::int64_t v = first_item(); v < count; v += item_step()) weights[v] = exponential(static_cast<double>(in_order(orders[v])) - largest);
}

/// The smallest number from `low` to `high` beyond which no more than `limit` lies: above(v, number) is what v has beyond it.
template <class Above>
__device__ std::uint32_t least_with(std::uint32_t low, std::uint32_t high, double limit, std::int64_t count, double* shared, const Above& above) {
  constexpr int cuts = 7;
  while (low < high) {
    std::uint32_t cut[cuts];
    double sums[cuts]{};
#pragma unroll
    for (int j = 0; j < cuts; ++j) cut[j] = low + static_cast<std::uint32_t>(std::uint64_t{high - low} * static_cast<unsigned>(j + 1) / (cuts + 1));
    for (std::int64_t v = threadIdx.x; v < count; v += blockDim.x)
#pragma unroll
      for (int j = 0; j < cuts; ++j) sums[j] += above(v, cut[j]);
    std::uint32_t next_low = low, next_high = high;
#pragma unroll
    for (int j = cuts - 1; j >= 0; --j) {
      if (block_sum(sums[j], shared) <= limit) next_high = cut[j];
      else if (next_low == low) next_low = cut[j] + 1;
    }
    low = next_low, high = next_high;
  }
  return low;
}

/// One block: draws from those that top_k and top_p leave, the likeliest first, equal ones in the order of tokens.
template <int Threads>
__global__ void __launch_bounds__(Threads) draw_token_kernel(ChosenToken* chosen, const LogitRange* range, const std::uint32_t* orders, const double* weights, TokenChoice choice, std::int64_t count) {
  if (chosen->status != ChosenToken::Status::chosen) return;
  auto* shared = dynamic_shared<double>();
  const std::uint32_t most = range->largest;
  std::uint32_t least = range->smallest;
  const auto sum = [&](auto term) {
    double mine = 0;
    for (std::int64_t v = threadIdx.x; v < count; v += blockDim.x) mine += term(v);
    return block_sum(mine, shared);
  };
  const auto heavier = [&](std::int64_t v, std::uint32_t order) { return orders[v] > order ? weights[v] : 0.0; };

  struct Place {
    std::uint32_t order;         // the logit at which larger ones weigh as much as was asked for
    double before, ties, weight;  // what larger ones weigh; how many are equal, and the weight of each
    double rank;                  // how many of the equal ones come before
  };
  const auto place_of = [&](double limit) {
    Place place{};
    place.order = least_with(least, most, limit, count, shared, heavier);
    place.before = sum([&](std::int64_t v) { return heavier(v, place.order); });
    place.ties = sum([&](std::int64_t v) { return orders[v] == place.order ? 1.0 : 0.0; });
    place.weight = exponential(static_cast<double>(in_order(place.order)) - static_cast<double>(in_order(most)));
    const double rank = place.weight > 0 ? floor((limit - place.before) / place.weight) : 0.0;
    place.rank = larger(0.0, smaller(rank, place.ties - 1));
    return place;
  };

  if (choice.top_k > 0 && choice.top_k < count)
    least = least_with(least, most, choice.top_k - 1, count, shared, [&](std::int64_t v, std::uint32_t order) { return orders[v] > order ? 1.0 : 0.0; });
  double kept = sum([&](std::int64_t v) { return orders[v] >= least ? weights[v] : 0.0; });
  const double limit = static_cast<double>(choice.top_p) * kept;
  if (choice.top_p > 0 && limit < kept) {
    const Place last = place_of(limit);
    kept = last.before + (last.rank + 1) * last.weight;
    least = last.order;
  }
  const Place drawn = place_of(choice.uniform * kept);
  const std::uint32_t token = least_with(0, static_cast<std::uint32_t>(count - 1), drawn.ties - drawn.rank - 1, count, shared,
                                         [&](std::int64_t v, std::uint32_t index) { return orders[v] == drawn.order && v > index ? 1.0 : 0.0; });
  if (threadIdx.x == 0) chosen->token = static_cast<std::int32_t>(token);
}

/// chosen[0]: the token drawn from `logits` (V), never one of `banned`, and whether the logits allowed it. It is the token that
/// infer/sampling.hpp's Sampler draws for the same random number, up to the rounding of sums in double. Logits stay where they are.
template <class X>
void choose_token(Device& device, View<ChosenToken, 1> chosen, View<X, 1> logits, View<const std::int32_t, 1> banned, const TokenChoice& choice) {
  using A = std::remove_const_t<X>;
  constexpr int most_threads = 1024;
  const std::int64_t count = logits.size();
  const bool greedy = choice.top_k == 1;
  std::uint32_t* orders = nullptr;
  double* weights = nullptr;
  LogitRange* range = nullptr;
  const auto lay_out = [&](Arena arena) {
    orders = arena.take<std::uint32_t>(count).data, weights = arena.take<double>(greedy ? 0 : count).data, range = arena.take<LogitRange>(1).data;
    return arena.used();
  };
  const std::size_t bytes = lay_out({});
  lay_out({device.workspace<std::byte>(static_cast<std::int64_t>(bytes)), bytes});
  const int threads = static_cast<int>(smaller<std::int64_t>(most_threads, round_up(count, 32)));
  launch(device, {.name = "order_logits", .blocks = blocks_for(device, count, 256)}, order_logits_kernel<A>, orders, logits.data, choice.temperature, count);
  launch(device, {.name = "choose_largest", .threads = threads, .shared_bytes = 32 * sizeof(std::uint32_t)}, choose_largest_kernel<most_threads>, chosen.data, range, orders, banned.data, banned.size(), count);
  if (greedy) return;
  launch(device, {.name = "weigh_logits", .blocks = blocks_for(device, count, 256)}, weigh_logits_kernel<256>, weights, orders, range, count);
  launch(device, {.name = "draw_token", .threads = threads, .shared_bytes = 32 * sizeof(double)}, draw_token_kernel<most_threads>, chosen.data, range, orders, weights, choice, count);
}

}  // namespace golem::cuda
