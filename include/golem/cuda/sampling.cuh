// Choosing a token from logits on the GPU: greedy, temperature, top-k, top-p, as infer/sampling.hpp does on the host (spec 6.1).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "golem/core/buffer.hpp"
#include "golem/core/math.hpp"
#include "golem/core/op_arguments.hpp"
#include "golem/core/tensor.hpp"
#include "golem/cuda/sampling_kernels.cuh"

namespace golem::cuda {

/// Starts the rounds of a search: as many as cut 2^bits possibilities down to one.
template <Search S>
void search(Device& device, const Launch& how, ChosenToken* chosen, ChoiceState* state, const std::uint32_t* orders, const TokenChoice& choice, double weight_parts, int bits, std::int64_t count) {
  for (int rounds = ceil_div(bits, range_part_bits); rounds-- > 0;) launch(device, how, narrow_kernel<S>, chosen, state, orders, choice, weight_parts, rounds, count);
}

/// chosen[0]: the token drawn from `logits` (V), never one of `banned`, and whether the logits allowed it. It is the token that
/// infer/sampling.hpp's Sampler draws for the same random number, up to rounding: probabilities are whole multiples of a part of the
/// largest one, 2^-45 of it where V is 150528, and smaller ones are never drawn. Logits stay where they are.
template <class X>
void choose_token(Device& device, View<ChosenToken, 1> chosen, View<X, 1> logits, View<const std::int32_t, 1> banned, const TokenChoice& choice) {
  using A = std::remove_const_t<X>;
  const std::int64_t count = logits.size();
  require(count > 0 && count < std::int64_t{1} << 31, "a token was to be chosen from ", count, " logits: give 1 to 2^31 - 1");
  std::uint32_t* orders = nullptr;
  ChoiceState* state = nullptr;
  const auto lay_out = [&](Arena arena) {
    orders = arena.take<std::uint32_t>(count).data, state = arena.take<ChoiceState>(1).data;
    return arena.used();
  };
  const std::size_t bytes = lay_out({});
  lay_out({device.workspace<std::byte>(static_cast<std::int64_t>(bytes)), bytes});
  device.clear(state, sizeof *state);
  const auto blocks = smaller<std::int64_t>(device.multiprocessors(), ceil_div(count, sampling_threads));
  const auto how = [&](std::string_view name, std::size_t shared) { return Launch{.name = name, .early = true, .blocks = blocks, .threads = sampling_threads, .shared_bytes = shared}; };
  launch(device, how("order_logits", 32 * sizeof(std::uint32_t)), order_logits_kernel<A>, orders, state, logits.data, choice.temperature, count);
  if (banned.size() > 0)
    launch(device, {.name = "ban_tokens", .early = true, .blocks = ceil_div(banned.size(), sampling_threads), .threads = sampling_threads}, ban_tokens_kernel<sampling_threads>, orders, banned.data, banned.size());
  launch(device, how("choose_likeliest", 32 * sizeof(std::uint64_t)), choose_likeliest_kernel<sampling_threads>, chosen.data, state, orders, choice, count);
  if (choice.top_k == 1) return;

  const int vocabulary_bits = std::bit_width(static_cast<std::uint64_t>(count));
  const auto weight_parts = static_cast<double>(std::uint64_t{1} << (63 - vocabulary_bits));  // all together stay below 2^63
  const bool cuts = choice.top_k > 0 && choice.top_k < count;  // else one round adds up all of them
  const Launch narrow = how("narrow_choice", sizeof(RangeParts));
  search<Search::top_k>(device, narrow, chosen.data, state, orders, choice, weight_parts, cuts ? 32 : 1, count);
  if (choice.top_p > 0) search<Search::top_p>(device, narrow, chosen.data, state, orders, choice, weight_parts, 32, count);
  search<Search::drawn>(device, narrow, chosen.data, state, orders, choice, weight_parts, 32, count);
  search<Search::token>(device, narrow, chosen.data, state, orders, choice, weight_parts, vocabulary_bits, count);
}

}  // namespace golem::cuda
