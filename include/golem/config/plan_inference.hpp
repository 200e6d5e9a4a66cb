// What inference holds on a rank, in bytes, item by item.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/config/parameters.hpp"
#include "golem/config/plan_training.hpp"
#include "golem/config/precision.hpp"
#include "golem/core/error.hpp"
#include "golem/core/math.hpp"
#include "golem/core/number.hpp"

namespace golem {

/// What an engine on one rank holds, in bytes.
struct InferenceMemory {
  std::int64_t weights = 0;
  std::int64_t key_value_cache = 0;
  std::int64_t activations = 0;
  std::int64_t head = 0;
  std::int64_t workspace = workspace_bytes;  // of a GPU's ops; on a CPU threads keep scratch space, which grows with their number
  constexpr std::int64_t total() const { return weights + key_value_cache + activations + head + workspace; }
};

/// Bytes of all weights in P: quantised matrices as bits and fp16 scales, the rest in the compute type; and where products are the original's,
/// room for the elements of one matrix.
template <Precision P>
constexpr std::int64_t weight_bytes(const ModelConfig& c, int tp = 1) {
  std::int64_t bytes = 0;
  for_each_parameter(c, whole(c), [&](const Parameter& parameter, int) {
    if constexpr (QuantizedPrecision<P>) {
      if (parameter.quantized) {
        bytes += parameter.local_rows(tp) * (P::quant.row_bytes(parameter.local_columns(tp)) + P::quant.groups(parameter.local_columns(tp)) * 2);
        return;
      }
    }
    bytes += parameter.local_size(tp) * static_cast<std::int64_t>(sizeof(typename P::compute));
  });
  if constexpr (DequantizedPrecision<P>) bytes += largest_quantized(c, tp) * static_cast<std::int64_t>(sizeof(typename P::compute));
  return bytes;
}

/// Blocks that a GPU's attention of one new token to a cache is cut in, at most: eight for each of 160 multiprocessors; and as how many
/// new tokens of a sequence count as few, which it takes one by one.
inline constexpr int most_cache_blocks = 8 * 160, few_cached_tokens = 4;

/// As how many tokens count as many for a product of quantised weights on a GPU, which then makes elements of them first. Predicted, of one H200: elements cost what reading five bytes
/// a weight takes, and quantised tiles run at a quarter of cuBLASLt's rate; no chip has run either yet.
inline constexpr std::int64_t fewest_dequantized_tokens = 128;
/// Of how many rows of a (rows, columns) matrix there are elements at once: all, or equal parts of at most 256 MiB, but whole tiles of a product.
constexpr std::int64_t dequantized_rows(std::int64_t rows, std::int64_t columns, std::int64_t element_bytes) {
  constexpr std::int64_t tile = 128;
  const std::int64_t most = larger(tile, 256 * mebibyte / (columns * element_bytes) / tile * tile);
  return rows <= most ? rows : round_up(ceil_div(rows, ceil_div(rows, most)), tile);
}
/// The memory of the elements of so many rows, before a product's own workspace.
constexpr std::int64_t dequantized_bytes(std::int64_t rows, std::int64_t columns, std::int64_t element_bytes) { return round_up(rows * columns * element_bytes, 256); }

/// Tokens of all sequences together whose bytes are counted without overflow, for models a hundred times GLM-130B's size.
inline constexpr std::int64_t most_planned_tokens = std::int64_t{1} << 34;

/// Inference of M for `sequences` of up to `capacity` tokens each (0: the context). Throws Error for more than most_planned_tokens.
template <Model M, Precision P>
constexpr InferenceMemory plan_inference(int sequences = 1, int capacity = 0, int tp = 1) {
  const ModelConfig& c = M::config;
  constexpr std::int64_t compute = sizeof(typename P::compute), accumulate = sizeof(accumulate_t<typename P::compute>);
  const std::int64_t tokens = std::int64_t{sequences} * (capacity ? capacity : c.context);
  if (tokens > most_planned_tokens) fail("cannot plan an engine for ", sequences, " sequences of ", capacity ? capacity : c.context, " tokens: of all sequences together it can count ", most_planned_tokens);
  const std::int64_t chunk = smaller(head_chunk(c), tokens);
  const MicroBatch n{tokens, tokens, tp, compute, accumulate};
  InferenceMemory plan;
  plan.weights = weight_bytes<P>(c, tp) + std::int64_t{c.context} * c.head_dim() * accumulate;
  plan.key_value_cache = 2 * tokens * c.key_width() / tp * c.layers * compute;
  plan.activations = tokens * (4 * std::int64_t{c.hidden} + larger(c.ffn, c.hidden) / tp + (c.dropout > 0 ? c.hidden : 0)) * compute + block_activation_bytes(c, n) +
                     attention_activation_bytes(c, n) + 2 * tokens * accumulate + sequences * std::int64_t{c.hidden} * compute;
  plan.head = chunk * (c.hidden * compute + c.vocab / tp * accumulate + 4 * accumulate) + std::int64_t{sequences} * (tp > 1 && sequences > 1 ? 2 : 1) * c.vocab * accumulate;  // of several rows, ranks' parts are gathered beside them
  // On a GPU each block leaves a softmax and its values; the original's steps keep all scores; rounded activations have scales; many tokens meet elements, beside a product's own workspace.
  const std::int64_t heads = c.heads / tp, scores = rounding_of<P>() == Rounding::stepwise ? heads * (capacity ? capacity : c.context) : 0;
  plan.workspace = larger(plan.workspace, std::int64_t{few_cached_tokens} * sequences * (scores + most_cache_blocks * std::int64_t{c.head_dim() + 2}) * accumulate);
  if constexpr (QuantizedPrecision<P>) {
    if (P::quant.activations == Activations::int8) {
      const std::int64_t columns = round_up(larger(c.hidden, c.ffn / tp), 128);
      plan.workspace = larger(plan.workspace, tokens * (columns + columns / P::quant.block() * std::int64_t{sizeof(float)}));
    } else if (!DequantizedPrecision<P> && tokens >= fewest_dequantized_tokens) {
      for_each_parameter(c, whole(c), [&](const Parameter& parameter, int) {
        if (!parameter.quantized) return;
        const std::int64_t columns = parameter.local_columns(tp), rows = dequantized_rows(parameter.local_rows(tp), columns, compute);
        plan.workspace = larger(plan.workspace, dequantized_bytes(rows, columns, compute) + workspace_bytes);
      });
    }
  }
  return plan;
}

}  // namespace golem
