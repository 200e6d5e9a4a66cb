// How long an engine takes on a machine: the prompt by its products, each token by the bytes that it reads; collectives by links.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/config/flops.hpp"
#include "golem/config/hardware.hpp"
#include "golem/config/plan_inference.hpp"
#include "golem/config/step_time.hpp"
#include "golem/config/traffic.hpp"

namespace golem {

/// Seconds on `tp` ranks that share each layer.
struct GenerationTimes {
  double prompt = 0;         // until the first token
  double token = 0;          // each pass after it, which makes one token of every sequence
  double tensor_prompt = 0;  // of these, collectives among the ranks
  double tensor_token = 0;
  double tokens_per_second = 0;  // of all sequences
};

/// Bytes of keys and values of one token, on one of `tp` ranks.
template <Precision P>
constexpr std::int64_t key_value_bytes(const ModelConfig& c, int tp = 1) {
  return 2 * std::int64_t{c.layers} * c.key_width() / tp * static_cast<std::int64_t>(sizeof(typename P::compute));
}

/// Bytes of the elements that a pass over so many tokens makes of quantised weights before its products: always, as the original does, or,
/// on a GPU, where tokens are many; else 0.
template <Precision P>
constexpr double element_bytes(const ModelConfig& c, std::int64_t tokens, int tp = 1) {
  double elements = 0;
  if constexpr (QuantizedPrecision<P>)
    if (DequantizedPrecision<P> || (P::quant.activations == Activations::exact && tokens >= fewest_dequantized_tokens))
      for_each_parameter(c, whole(c), [&](const Parameter& parameter, int) { elements += parameter.quantized ? static_cast<double>(parameter.local_size(tp)) : 0.0; });
  return elements * sizeof(typename P::compute);
}

/// Bytes of the weights as they are stored.
template <Precision P>
constexpr double stored_weight_bytes(const ModelConfig& c, int tp = 1) {
  const std::int64_t room = DequantizedPrecision<P> ? largest_quantized(c, tp) * static_cast<std::int64_t>(sizeof(typename P::compute)) : 0;  // is no weight
  return static_cast<double>(weight_bytes<P>(c, tp) - room);
}

/// Bytes that a pass for one new token of each of `sequences` moves, whose caches hold `length` tokens each: weights, once, and their
/// elements, which are written and read again; and the caches, once, as where heads that share keys find them in the processor's cache.
template <Precision P>
constexpr double token_bytes(const ModelConfig& c, int sequences, std::int64_t length, int tp = 1) {
  return stored_weight_bytes<P>(c, tp) + 2 * element_bytes<P>(c, sequences, tp) + static_cast<double>(sequences * length * key_value_bytes<P>(c, tp));
}

/// Of `sequences` prompts of `length` tokens, and of the passes behind them. A pass takes the longer of what it reads and what it
/// computes; quantised weights are multiplied in the compute type (spec 5.1), and elements of them are made before that.
template <Precision P>
constexpr GenerationTimes generation_times(const ModelConfig& c, const Hardware& h, int tp, int sequences, std::int64_t length, const Efficiency& reached = {}) {
  constexpr DType type = dtype_of<typename P::compute>();
  const double rate = h.rate(type) * reached.products * tp, bandwidth = h.bandwidth * reached.memory, rows = sequences, tokens = rows * static_cast<double>(length);
  const double element = size_of(type), logits = rows * c.vocab * static_cast<double>(sizeof(accumulate_t<typename P::compute>));
  const Link link = links_of(h, {.tp = tp}, reached.links).tensor;
  const auto collectives = [&](double of) {  // two sums a block, the embedding's, and the logits gathered
    return (2.0 * c.layers + 1) * all_reduce_seconds(of * c.hidden * element, tp, link) + scatter_seconds(logits, tp, link);
  };
  const auto pass = [&](std::int64_t new_tokens, double computing, double cached) {
    const double stored = stored_weight_bytes<P>(c, tp), elements = element_bytes<P>(c, new_tokens, tp), making = elements > 0 ? stored + elements : 0;
    const double reading = ((elements > 0 ? elements : stored) + cached) / bandwidth;
    return making / bandwidth + (computing > reading ? computing : reading);
  };
  const double linear = c.layers * linear_flops(c) / rate, attention = c.layers * attention_flops(c, length) / (rate * reached.attention), head = rows * head_flops(c) / rate;
  GenerationTimes t;
  t.tensor_prompt = collectives(tokens), t.tensor_token = collectives(rows);
  t.prompt = pass(sequences * length, tokens * (linear + attention) + head, 0) + t.tensor_prompt;
  t.token = pass(sequences, rows * (linear + attention) + head, static_cast<double>(sequences * length * key_value_bytes<P>(c, tp))) + t.tensor_token;
  t.tokens_per_second = rows / t.token;
  return t;
}

}  // namespace golem
